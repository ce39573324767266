"""`entry`: how players' entry points are compiled; they use the engine's columns, so all of envs is their source."""

from pathlib import Path

from memexp.jit import entries

entry = entries(Path(__file__).parents[1])
