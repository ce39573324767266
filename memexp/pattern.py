"""Pattern strings: "AgSA" is one column of three experts, "X^S" one of two. Imports no torch."""

import re

from memexp.config import did_you_mean
from memexp.project import entries, refuse_module

TOKENS: dict[str, str] = {
    "A": "Axon: diagonal complex recurrence with exact traces (RTU)",
    "Ag": "AGaLiTe: gated linear attention with an oscillatory low-rank state",
    "X": "Transformer-XL attention over the last mem_len steps",
    "X^": "Transformer-XL attention, Axon projections",
    "M": "mLSTM: matrix memory of xLSTM",
    "M^": "mLSTM, Axon projections",
    "S": "sLSTM: scalar memory of xLSTM with hidden-to-hidden recurrence",
    "S^": "sLSTM, Axon projections",
    "L": "LSTM",
    "G": "GRU",
    "G-": "minGRU: a GRU whose gates see the input alone",
    "R": "LRU: linear recurrent unit, diagonal and complex",
    "S5": "S5: diagonal state-space layer, from HiPPO",
    "B": "Mamba-2: state-space layer with a decay for each head and step",
    "D": "Gated DeltaNet: matrix memory that replaces what a key had stored",
    "C": "causal convolution over the last 4 steps",
    "W": "frame stacking: two linear layers on the last 4 steps",
}
"""Token -> its cell. The longest matching token is read first, so "Ag" is never read as "A" and "g"."""

NAMES = {
    "axon": "A", "agalite": "Ag", "transformer-xl": "X", "gtrxl": "X", "mlstm": "M", "slstm": "S", "lstm": "L",
    "gru": "G", "mingru": "G-", "lru": "R", "s5": "S5", "mamba2": "B", "mamba-2": "B",
    "deltanet": "D", "gated-deltanet": "D", "conv": "C", "frames": "W",
}  # fmt: skip
"""Words that stand for a token: pattern=gru is pattern=G."""

ATTENTION = {"X", "X^"}
"""Tokens that attend to the last `mem_len` steps. All other tokens keep a state."""

Pattern = str | list[str]


OWN_CELL = re.compile(r"[^\W\d][\w.]*:[^\W\d]\w*")
"""A cell of one's own, MODULE:CLASS."""


def parse_pattern(pattern: str) -> list[str]:
    """The tokens of one column, in order: "AgSA" -> ["Ag", "S", "A"]. Commas and spaces may separate them.

    A name such as "gru" stands for its token. A word with a colon is a cell of one's own, MODULE:CLASS. So is the name
    of an entry point of the group `memexp.cells`, unless it consists of our tokens: "Ag,cells:MinGRU,A" -> ["Ag",
    "cells:MinGRU", "A"]. It hides our name of the same letters, in any case.
    Raises ValueError, which names the first character that starts no token, and the nearest name or all of them.
    """
    tokens: list[str] = []
    for word in re.finditer(r"[^, ]+", pattern):
        tokens += _tokens_of(word[0], pattern, word.start())
    if not tokens:
        raise ValueError(f"pattern '{pattern}' is empty; known tokens: {', '.join(TOKENS)}")
    return tokens


def _tokens_of(word: str, pattern: str, start: int) -> list[str]:
    if word.lower() in NAMES and word not in TOKENS and word.lower() not in map(str.lower, entries("cells")):
        return [NAMES[word.lower()]]
    if ":" in word:
        if not OWN_CELL.fullmatch(word):
            raise ValueError(f"pattern '{pattern}': '{word}' is not MODULE:CLASS, a cell of your own")
        return [word]
    longest_first, tokens, at = sorted(TOKENS, key=len, reverse=True), list[str](), 0
    while at < len(word):
        token = next((t for t in longest_first if word.startswith(t, at)), None)
        if token is None:
            named = entries("cells")
            if word in named:
                return [word]
            refuse_module(word, "a cell")
            raise ValueError(
                f"pattern '{pattern}' has no token at '{word[at]}' (character {start + at + 1}); tokens: "
                f"{', '.join(TOKENS)}; a cell of your own: MODULE:CLASS" + did_you_mean(word, [*NAMES, *named], "names")
            )
        tokens.append(token)
        at += len(token)
    return tokens


def tokens_in(pattern: Pattern) -> set[str]:
    """The tokens of all columns of a pattern. Raises ValueError as `parse_pattern` does."""
    columns = [pattern] if isinstance(pattern, str) else pattern
    return {token for column in columns for token in parse_pattern(column)}


def cell_modules(pattern: Pattern) -> list[tuple[str, str]]:
    """(module, class) of all cells in a pattern that are not ours: what is imported to build it."""
    own = sorted(tokens_in(pattern) - TOKENS.keys())
    return [(module, name) for module, _, name in (entries("cells").get(one, one).partition(":") for one in own)]


def remembers(pattern: Pattern, mem_len: int) -> bool:
    """Whether a stack of this pattern has a memory: X and X^ have none if mem_len is 0, all other tokens always do."""
    return mem_len > 0 or not tokens_in(pattern) <= ATTENTION
