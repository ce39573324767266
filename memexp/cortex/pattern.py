"""Pattern strings: "AgSA" is one column of three experts, "X^S" one of two. Imports no torch."""

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
    "C": "causal convolution over the last 4 steps",
}
"""Token -> its cell. The longest matching token is read first, so "Ag" is never read as "A" and "g"."""

Pattern = str | list[str]


def parse_pattern(pattern: str) -> list[str]:
    """The tokens of one column, in order: "AgSA" -> ["Ag", "S", "A"]. Commas and spaces may separate them.

    Raises ValueError, which names the first character that starts no token.
    """
    longest_first = sorted(TOKENS, key=len, reverse=True)
    tokens, at = [], 0
    while at < len(pattern):
        if pattern[at] in ", ":
            at += 1
            continue
        token = next((t for t in longest_first if pattern.startswith(t, at)), None)
        if token is None:
            raise ValueError(
                f"pattern '{pattern}' has no token at '{pattern[at]}' (character {at + 1}); known: {', '.join(TOKENS)}"
            )
        tokens.append(token)
        at += len(token)
    if not tokens:
        raise ValueError(f"pattern '{pattern}' is empty; known tokens: {', '.join(TOKENS)}")
    return tokens


def remembers(pattern: Pattern, mem_len: int) -> bool:
    """Whether a stack of this pattern has a memory: X and X^ have none if mem_len is 0, all other tokens always do."""
    columns = [pattern] if isinstance(pattern, str) else pattern
    tokens = {token for column in columns for token in parse_pattern(column)}
    return mem_len > 0 or not tokens <= {"X", "X^"}
