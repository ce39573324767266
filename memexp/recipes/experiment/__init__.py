"""Recipes of experiments, one folder a study."""
