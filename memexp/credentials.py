"""Finds what looks like a credential in text and data, and masks it: no file or message of a run holds one."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from functools import cache, lru_cache
from typing import IO, Any, cast
from urllib.parse import quote

MASK = "***"
"""Stands in the place of a credential."""
SHORTEST = 8
"""Fewest characters of a value that is masked wherever it occurs: a shorter one may be an ordinary word."""

_SUFFIX = r"(?:[_-]?(?:value|id|hash|base64|b64|url|\d+))*"
_STRONG = rf"""(?:token|secret|passw(?:or)?d|passphrase|pwd|(?<![a-z])(?:pass|pw|pat|sas|jwt|dsn|sig|auth)
    |(?:api|access|private|account|secret|signing|encryption|ssh)[_-]?key|credentials?|webhook|oauth|authorization|cookie
    |signature){_SUFFIX}"""
_KEY = rf"(?<![a-z])key{_SUFFIX}"
_VALUE = r"""(?:(?:bearer|basic)\s+\S+|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\\"(?:[^"\\]|\\(?!"))*\\"|[^\s"',;&)\]}]+)"""
_NAME = re.compile(rf"(?:(?P<strong>{_STRONG})|(?P<key>{_KEY}))$", re.I | re.X)
_PAIR = re.compile(
    rf"(?P<name>(?P<strong>{_STRONG})|(?P<key>{_KEY}))(?P<sign>\\?[\"']?\s*[:=]\s*)(?P<value>{_VALUE})", re.I | re.X
)
_FORMS = re.compile(
    r"""-----BEGIN[ A-Z]*PRIVATE\ KEY-----.*?(?:-----END[ A-Z]*PRIVATE\ KEY-----|\Z)
    | (?<=://)(?!git@|\*\*\*@)[^\s/"'<>]+(?=@)                                   # https://user:password@host
    | (?<=hooks\.slack\.com/services/)[\w/-]+ | (?<=/api/webhooks/)[\w/-]+
    | \b(?:bearer|basic)\ +[\w.~+/=-]{16,}
    | \b(?:gh[pousr]_|github_pat_|glpat-|hf_|sk-|xox[a-z]-|npm_|pypi-|dckr_pat_|wandb_v1_|AIza|ya29\.)[\w-]{16,}
    | \b(?:AKIA|ASIA)[0-9A-Z]{16}\b
    | \beyJ[\w-]{10,1000}\.[\w-]{10,}\.[\w-]*""",
    re.S | re.X | re.I,
)
"""Credentials that are known by their form: keys, addresses with a password, tokens of well-known services."""
_RANDOM = re.compile(r"(?<![\w+=-])(?=[\w+=-]*\d)(?=[\w+=-]*[a-z])(?:(?=[\w+=-]*[A-Z])[\w+=-]{32,}|[0-9a-f]{32,})")
"""A long string of letters and digits, which may be a key."""
_WORDS = ("none", "null", "true", "false", "str", "int", "any", "string")
_typed: set[str] = set()
"""Credentials that this process was given as words."""


@cache
def is_secret_variable(name: str) -> bool:
    """Whether an environment variable of this name may hold a credential."""
    return any(word in name.upper() for word in ("KEY", "TOKEN", "SECRET", "PASSW", "WEBHOOK")) or bool(
        _NAME.search(name)
    )


def mask(text: str) -> str:
    """`text` with MASK in place of everything that looks like a credential.

    That is: the value of a secret environment variable or typed word, what follows a name such as `token=`, and the
    forms of `_FORMS`.
    """
    if known := _known(frozenset(os.environ.items()), frozenset(_typed)):
        text = known.sub(MASK, text)
    return _PAIR.sub(_mask_pair, _FORMS.sub(MASK, text))


def mask_data(data: Any, name: str = "") -> Any:
    """`data` (dicts, lists, values) with its credentials masked; `name` is the key that it stands under."""
    if isinstance(data, dict):
        return {key: mask_data(value, str(key)) for key, value in cast(dict[Any, Any], data).items()}
    if isinstance(data, (list, tuple)):
        return [mask_data(value, name) for value in cast(list[Any], data)]
    if (found := _NAME.search(name)) and _counts(found, str(data)):
        return MASK
    return mask(data) if isinstance(data, str) else data


def is_free(text: str) -> bool:
    """Whether `text` surely holds no credential: nothing that `mask` finds, and no long random string."""
    return mask(text) == text and not _RANDOM.search(re.sub(r"^index .*$", "", text, flags=re.M))


def remember(data: Any, name: str = "") -> None:
    """Mask the credentials in `data` (see mask_data) from now on wherever they occur, also without their names."""
    if isinstance(data, dict):
        for key, value in cast(dict[Any, Any], data).items():
            remember(value, str(key))
    elif isinstance(data, (list, tuple)):
        for value in cast(list[Any], data):
            remember(value, name)
    elif (found := _NAME.search(name)) and _counts(found, str(data)):
        _typed.add(str(data))
    elif isinstance(data, str):
        _typed.update(pair["value"].strip("\"'\\") for pair in _PAIR.finditer(data) if _counts(pair, pair["value"]))


@contextmanager
def masked_output() -> Iterator[None]:
    """Inside, what Python prints to stdout and stderr is masked, unless it goes to a terminal."""
    import sys

    with ExitStack() as stack:
        for stream, redirect in ((sys.stdout, redirect_stdout), (sys.stderr, redirect_stderr)):
            if not stream.isatty():
                masked = _Masked(stream)
                stack.enter_context(redirect(cast(Any, masked)))
                stack.callback(masked.end)
        yield


class _Masked:
    """A text stream that masks whole lines. What follows the last line is kept back until `end`."""

    def __init__(self, stream: IO[str]):
        self._stream, self._rest = stream, ""

    def write(self, text: str) -> int:
        lines, newline, self._rest = (self._rest + text).rpartition("\n")
        if newline:
            self._stream.write(mask(lines + newline))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._stream.flush()

    def end(self) -> None:
        rest, self._rest = self._rest, ""
        self._stream.write(mask(rest))
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _counts(found: re.Match[str], value: str) -> bool:
    """Whether `value` under this name is a credential: not a reference to one ($TOKEN), a short number or a word."""
    value = value.strip("\"'\\")
    if value in ("", MASK) or value.startswith("$") or value.lower() in _WORDS:
        return False
    if found["key"]:
        return len(value) >= SHORTEST and not re.fullmatch(r"[a-z_.]+|.*[(\[{].*", value)
    return len(value) >= (6 if re.fullmatch(r"[-\d.e]+", value) else 3)


def _mask_pair(pair: re.Match[str]) -> str:
    if not _counts(pair, pair["value"]):
        return pair[0]
    quotes = re.match(r"\\?[\"']|", pair["value"])
    assert quotes
    return f"{pair['name']}{pair['sign']}{quotes[0]}{MASK}{quotes[0]}"


@lru_cache(maxsize=4)
def _known(environment: frozenset[tuple[str, str]], typed: frozenset[str]) -> re.Pattern[str] | None:
    """What finds the secrets of the environment and the typed ones; None if there are none.

    Each is found as it is, in an address, in JSON and in Python's repr, the longest first.
    """
    values = {value for name, value in environment if is_secret_variable(name) and not value.startswith("/")}
    for _, value in environment:
        values |= set(re.findall(r"://[^\s/:@]*:([^\s/]+)@", value))
    long = [one for one in values | typed if len(one) >= SHORTEST]
    spelt = {form for one in long for form in (one, quote(one, safe=""), json.dumps(one)[1:-1], repr(one)[1:-1])}
    return re.compile("|".join(map(re.escape, sorted(spelt, key=len, reverse=True)))) if spelt else None
