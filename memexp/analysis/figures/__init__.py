"""The pictures of an answer, one module a kind. `style` has what they share, `files` writes them to files."""

from memexp.analysis.figures.funnel import FUNNEL
from memexp.analysis.figures.learning import LEARNING
from memexp.analysis.figures.spreads import PROFILES, TIMES
from memexp.analysis.figures.twins import EFFECTS, FINALS

PICTURES = (LEARNING, FINALS, EFFECTS, PROFILES, TIMES, FUNNEL)
