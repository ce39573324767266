"""What nodes run is a commit that they can fetch, named without credentials; anything else is said."""

import pytest
from helpers.checkouts import checkout_at, commit, git

from memexp.config import UsageError
from memexp.launch import LaunchError
from memexp.launch.cloud.code import find_code, public_url


@pytest.fixture
def checkout(tmp_path):
    return checkout_at(tmp_path)


def test_pushed_code_has_no_problem(checkout):
    code = find_code(checkout=checkout)
    code.require()
    assert code.commit == git(checkout, "rev-parse", "HEAD").strip()
    assert code.repository.endswith("remote.git")


def test_uncommitted_and_unpushed_code_is_refused(checkout):
    (checkout / "a.txt").write_text("two")
    with pytest.raises(LaunchError, match=r"a.txt is not committed: .*--skip-git-check"):
        find_code(checkout=checkout).require()
    commit(checkout)
    with pytest.raises(LaunchError, match="is not pushed"):
        find_code(checkout=checkout).require()
    find_code("HEAD~1", checkout).require()


def test_an_unknown_ref_is_answered_with_the_nearest(checkout):
    git(checkout, "tag", "v1.0")
    with pytest.raises(UsageError, match=r"--git-ref v1: .*did you mean 'v1.0'"):
        find_code("v1", checkout)


def test_code_outside_a_checkout_is_a_problem(tmp_path):
    code = find_code(checkout=tmp_path)
    assert (code.commit, code.repository) == ("", "")
    with pytest.raises(LaunchError, match="no git checkout"):
        code.require()


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://user:token@github.com/a/b.git", "https://github.com/a/b.git"),
        ("https://ghp_secret@github.com/a/b", "https://github.com/a/b"),
        ("https://user:p@ss@github.com/a/b", "https://github.com/a/b"),
        ("ssh://user:token@example.org:22/a/b", "ssh://example.org:22/a/b"),
        ("git@github.com:a/b.git", "https://github.com/a/b.git"),
        ("ssh://git@github.com/a/b.git", "https://github.com/a/b.git"),
        ("https://github.com/a/b", "https://github.com/a/b"),
    ],
)
def test_a_url_that_nodes_get_carries_no_credentials(url: str, public: str):
    assert public_url(url) == public
