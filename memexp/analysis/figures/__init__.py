"""The pictures of an answer: `curves` and `rows`. `style` has what they share, `files` writes them to files."""

from memexp.analysis.figures.curves import LEARNING, PROFILES, TIMES
from memexp.analysis.figures.rows import EFFECTS, FINALS, FUNNEL, TRIALS

PICTURES = (LEARNING, FINALS, EFFECTS, PROFILES, TIMES, FUNNEL, TRIALS)
