"""The token encoder is the sum that its docstring states."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memexp.policy.encoder import TokenEncoder
from memexp.policy.token_embedding_bag import TokenTable, token_embedding_bag, token_embedding_bag_plain
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
    torch.manual_seed(0)  # LayerNorm enlarges rounding errors where a random z has a small deviation
    encoder = TokenEncoder(SPACE, 8, 5)
    rows = [tokens + [(255, 255, 255)] * (12 - len(tokens)) for tokens in observations]
    encoded = encoder(torch.tensor(rows, dtype=torch.uint8))
    z = torch.stack([by_definition(encoder, tokens) for tokens in observations])
    torch.testing.assert_close(encoded, encoder.out(torch.nn.functional.silu(encoder.norm(z))), rtol=1e-4, atol=1e-5)


def test_every_row_of_the_tables_of_what_is_shown_is_trained():
    torch.manual_seed(0)
    encoder = TokenEncoder(SPACE, 8, 5)
    assert (encoder.present.shape, encoder.scaled.shape) == ((9 + 27 + 5, 8), (27, 8))
    for table in (encoder.present, encoder.scaled):
        assert table.std().item() == pytest.approx(0.02, rel=0.2)
    tokens = torch.tensor([[(cell, f, v) for cell in CELLS[:2] for f in (0, 1, 2) for v in (1, 2)]], dtype=torch.uint8)
    encoder(tokens).square().sum().backward()
    trained = encoder.present.grad.abs().sum(1).nonzero()[:, 0].tolist()
    assert trained == [0, 1, 18, 19, 27, 28, 37, 38]
    assert encoder.scaled.grad.abs().sum(1).nonzero()[:, 0].tolist() == [0, 1]


def gradients(form, tokens: torch.Tensor, encoder: TokenEncoder) -> list[torch.Tensor]:
    """Sums by this form, and its gradients of both tables."""
    tables = [encoder.present, encoder.scaled]
    z = form(tokens, *tables, TokenTable(encoder.features, encoder.scale))
    return [z.detach(), *torch.autograd.grad(z.square().sum(), tables)]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.one_of(token, st.just((255, 255, 255))), min_size=12, max_size=12), max_size=4),
    st.integers(0, 999),
)
def test_one_pass_over_the_tokens_and_pytorchs_operators_agree_wherever_unused_tokens_stand(observations, seed):
    """Summed in another order, n float32 terms a_i differ by at most n eps / 2 sum |a_i| from the exact sum.

    z has 2 x 12 terms and one addition of both tables; a gradient adds up 2 z of at most 4 x 12 tokens. The sums of
    |a_i| are those of the same tables without signs, in float64.
    """
    torch.manual_seed(seed)
    encoder, tokens = TokenEncoder(SPACE, 130, 5), torch.tensor(observations, dtype=torch.uint8).view(-1, 12, 3)
    unsigned = copy.deepcopy(encoder).double()
    for table in (unsigned.present, unsigned.scaled):
        table.data.abs_()
    forms = [gradients(form, tokens, encoder) for form in (token_embedding_bag, token_embedding_bag_plain)]
    bounds = gradients(token_embedding_bag_plain, tokens, unsigned)
    for ours, plain, magnitude in zip(*forms, bounds, strict=True):
        assert ((ours - plain).abs() <= 2 * (25 + 48) * torch.finfo(torch.float32).eps / 2 * magnitude).all()


def test_threads_change_no_bit_of_sums_and_gradients():
    torch.manual_seed(0)
    encoder = TokenEncoder(SPACE, 192, 5)
    cells = torch.tensor(CELLS)[torch.randint(9, (700, 12))]
    tokens = torch.stack([cells, torch.randint(3, (700, 12)), torch.randint(255, (700, 12))], dim=-1).byte()
    before, results = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(gradients(token_embedding_bag, tokens, encoder))
    torch.set_num_threads(before)
    assert all(torch.equal(one, three) for one, three in zip(*results, strict=True))
