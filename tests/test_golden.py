"""Golden data is found where it is, and a required full set that is missing is an error."""

import pytest
from helpers.golden import FULL, PARTS, SUBSET, TABLES, find_golden, is_subset


def test_the_subset_is_complete_and_at_most_two_megabytes():
    assert sum(file.stat().st_size for file in SUBSET.rglob("*") if file.is_file()) <= 2_000_000
    assert all((SUBSET / name).is_file() for name in TABLES)
    for game in ("assembly_lines", "cvc_random_maps"):
        assert len(list((SUBSET / game).glob("*.npz"))) == 2
    cells = {file.stem.split("_")[1] for file in (SUBSET / "cortex").glob("cell_*.npz")}
    assert cells == {"agalite", "axon", "conv", "lstm", "mlstm", "slstm", "xl"}


@pytest.mark.parametrize("part", PARTS)
def test_the_subset_has_no_file_that_the_full_set_lacks(part):
    if not FULL.is_dir():
        pytest.skip(f"the full golden data is not in {FULL}")
    full = {file.name for file in (FULL / part).iterdir()}
    assert {file.name for file in (SUBSET / part).iterdir()} <= full


def test_the_variable_comes_first_then_the_full_set_then_the_subset(tmp_path):
    chosen, full, missing = tmp_path / "chosen", tmp_path / "full", tmp_path / "missing"
    chosen.mkdir()
    full.mkdir()
    assert find_golden({"MEMEXP_GOLDEN": str(chosen)}, full) == chosen
    assert find_golden({}, full) == full
    assert find_golden({}, missing) == SUBSET
    assert is_subset(SUBSET)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(pytest.UsageError, match=r"MEMEXP_GOLDEN=.*nowhere is not a folder"):
        find_golden({"MEMEXP_GOLDEN": str(tmp_path / "nowhere")})


def test_the_subset_is_an_error_where_the_full_set_is_required(tmp_path):
    with pytest.raises(pytest.UsageError, match="only the subset"):
        find_golden({"MEMEXP_REQUIRE_GOLDEN": "1"}, tmp_path / "missing")


def test_a_full_set_that_lacks_a_part_is_an_error_where_it_is_required(tmp_path):
    for part in PARTS[:2]:
        (tmp_path / part).mkdir()
    for number in range(50):
        (tmp_path / "cortex" / f"cell_{number}.npz").touch()
    with pytest.raises(pytest.UsageError, match=r"lacks cvc_random_maps, learning_progress_trace.json"):
        find_golden({"MEMEXP_REQUIRE_GOLDEN": "1", "MEMEXP_GOLDEN": str(tmp_path)})
