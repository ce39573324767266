"""Random numbers: xorshift64 (Marsaglia 2003) with one 64-bit state for each world."""

import numpy as np

from memexp.envs.grid.compiled import compiled


@compiled
def draw(s, w, below):
    """A uniformly random integer in 0 .. below - 1 from stream w of s.rng. `below` < 2^31."""
    x = s.rng[w]
    x ^= x << np.uint64(13)
    x ^= x >> np.uint64(7)
    x ^= x << np.uint64(17)
    s.rng[w] = x
    return (np.int64(x >> np.uint64(32)) * below) >> 32
