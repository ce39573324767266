"""The token encoder is the sum that its docstring states."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memexp.policy.encoder import TokenEncoder
from memexp.spaces import TokenSpace

SPACE = TokenSpace(12, (10.0, 4.0, 255.0), categories=(0, 3, 5), unplaced=(2,), window=3)
"""Feature 0 is an amount, 1 a name seen at a place, 2 a name of the agent itself."""
CELLS = [16 * row + column for row in range(3) for column in range(3)]


def by_definition(encoder: TokenEncoder, tokens: list[tuple[int, int, int]]) -> torch.Tensor:
    """z of one observation, token by token; tables are laid out by feature, then category, then place."""
    z = torch.zeros(encoder.present.shape[1])
    for location, feature, value in tokens:
        place = location // 16 * 3 + location % 16
        if feature == 0:
            z = z + encoder.present[place] + value / 10 * encoder.scaled[place]
        elif feature == 1:
            z = z + encoder.present[9 + 9 * min(value, 2) + place]
        else:
            z = z + encoder.present[9 + 27 + min(value, 4)]
    return z


token = st.tuples(st.sampled_from(CELLS), st.integers(0, 2), st.integers(0, 254))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(token, max_size=12), min_size=1, max_size=4))
def test_the_encoder_sums_its_tokens_whatever_their_number(observations):
    encoder = TokenEncoder(SPACE, 8, 5)
    rows = [tokens + [(255, 255, 255)] * (12 - len(tokens)) for tokens in observations]
    encoded = encoder(torch.tensor(rows, dtype=torch.uint8))
    z = torch.stack([by_definition(encoder, tokens) for tokens in observations])
    torch.testing.assert_close(encoded, encoder.out(torch.nn.functional.silu(encoder.norm(z))), rtol=1e-4, atol=1e-5)


def test_every_row_of_the_tables_of_what_is_shown_is_trained():
    encoder = TokenEncoder(SPACE, 8, 5)
    tokens = torch.tensor([[(cell, f, v) for cell in CELLS[:2] for f in (0, 1, 2) for v in (1, 2)]], dtype=torch.uint8)
    encoder(tokens).square().sum().backward()
    trained = encoder.present.grad.abs().sum(1).nonzero()[:, 0].tolist()
    assert trained == [0, 1, 18, 19, 27, 28, 37, 38]
    assert encoder.scaled.grad.abs().sum(1).nonzero()[:, 0].tolist() == [0, 1]
