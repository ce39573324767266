"""memexp: does an environment require memory, do agents learn, do they converge, and how long does it take."""

__version__ = "0.1.0"
