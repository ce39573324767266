"""The pictures of an answer: `curves` and `rows`. `style` has what they share, `files` writes them to files."""

from memexp.analysis.figures.curves import LEARNING, LOOK_BACK, PROFILES, TIMES
from memexp.analysis.figures.rows import EFFECTS, FINALS, FUNNEL, TRIALS

PICTURES = (LEARNING, FINALS, EFFECTS, LOOK_BACK, PROFILES, TIMES, FUNNEL, TRIALS)
