"""The names of memexp's recipes in its checkout: `recipes.controls` is the module `memexp/recipes/controls.py`."""

from memexp.recipes import __path__ as __path__
