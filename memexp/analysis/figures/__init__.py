"""The answer's pictures: one module a kind; `style` is what they share, `files` writes them for papers."""

from memexp.analysis.figures.funnel import FUNNEL
from memexp.analysis.figures.learning import LEARNING
from memexp.analysis.figures.spreads import PROFILES, TIMES
from memexp.analysis.figures.twins import EFFECTS, FINALS

PICTURES = (LEARNING, FINALS, EFFECTS, PROFILES, TIMES, FUNNEL)
