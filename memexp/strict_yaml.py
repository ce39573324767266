"""Reads YAML 1.2 without surprises, for matrix files and for values typed on the command line.

What YAML 1.1 read as something else is refused, because no reader can know what the writer meant: `010` (was 8), `1:30`
(was 90), `yes` and `off` (were booleans), dates. Digits may be grouped with '_'. As a value of `memory`, `on` and `off`
are words. Too much input is refused, too: no text can fill the memory or take minutes.
"""

import re
from collections.abc import Hashable
from math import isinf
from typing import Any

import yaml

MAX_CHARACTERS = 100_000
"""Most characters of a file. (A word of the command line is shorter than that.)"""
MAX_LEVELS = 20
MAX_VALUES = 10_000
"""Most keys and values of a document. What an alias stands for counts each time."""
MAX_DIGITS = 30

_TAG = "tag:yaml.org,2002:"
_CORE = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "merge": "<<",
}
"""Tag -> plain scalars that it is read from (YAML 1.2.2, section 10.3.2, with '_' in numbers and the merge key)."""
_REFUSED = {
    r"yes|Yes|YES|on|On|ON": "write true, or '{}' in quotes for the word",
    r"no|No|NO|off|Off|OFF": "write false, or '{}' in quotes for the word",
    r"[-+]?0[0-9_]+(\.[0-9_]*)?([eE][-+]?[0-9]+)?": "write the number without leading zeros, or text in quotes",
    r"[-+]?0b[01_]+": "write the number in decimal, or text in quotes",
    r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?": "write one plain number (1.5, not 1:30), or text in quotes",
    r"[0-9]{4}-[0-9][0-9]?-[0-9][0-9]?([Tt \t].*)?": "write a date in quotes",
}
"""Plain scalars that YAML 1.1 and 1.2 read differently -> what to write."""


def read(text: str) -> Any:
    """The value of a YAML document. Raises yaml.YAMLError; `problem` gives its message in one line."""
    return yaml.load(text, Loader=_Reader)


def problem(error: yaml.YAMLError) -> str:
    """'line 3: what is wrong'; no line number if the text has one line only."""
    what = " ".join((getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)).split())
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}: {what}" if mark and (mark.line or "\n" in (mark.buffer or "\n")) else what


class _Reader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012

    def __init__(self, text: str):
        super().__init__(text)
        self._text = text
        self._level = self._values = 0
        self._sizes: dict[yaml.Node | None, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node. Refuses one that is too deep, and one whose aliases would expand without end."""
        event, before = self.peek_event(), self._values
        mark, is_alias = event.start_mark, isinstance(event, yaml.AliasEvent)
        if getattr(event, "tag", None) not in (None, "!"):
            raise _error(f"leave out the tag '{event.tag.replace(_TAG, '!!')}'; text stands in quotes", mark)
        if self._level == MAX_LEVELS:
            raise _error(f"values are nested more than {MAX_LEVELS} levels deep", mark)
        self._level += 1
        node = super().compose_node(parent, index)
        self._level -= 1
        if is_alias and node not in self._sizes:
            raise _error("an alias stands inside the value that it names", mark)
        self._values += self._sizes[node] if is_alias else 1
        if self._values > MAX_VALUES:
            raise _error(f"there are more than {MAX_VALUES:,} values; those of aliases count each time", mark)
        if not is_alias:
            self._sizes[node] = self._values - before
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":  # `<<: *anchor` does not count as a key
                continue
            key = self.construct_object(key_node, deep=True)
            start, end = key_node.end_mark.index, value_node.end_mark.index
            if start <= end and not value_node.value and ":" not in self._text[start:end]:
                how = 'put a text with a comma in quotes ("Ag,cells:X"), and a space after the colon of a key'
                raise _error(f"'{key}' has no value: {how}", key_node)
            hashable = isinstance(key, Hashable)
            if not hashable or key in seen:
                raise _error(f"the key '{key}' stands twice" if hashable else f"{key} cannot be a key", key_node)
            seen.add(key)
            if str(key).rpartition(".")[2] == "memory":
                for one in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                    if one.value in ("on", "off"):
                        one.tag = f"{_TAG}str"
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        text = node.value.replace("_", "")
        if node.tag == f"{_TAG}int":
            if len(text) > MAX_DIGITS:
                raise _error(f"a number has {len(text):,} digits; {MAX_DIGITS} is the most", node)
            return int(text, 0)
        number = self.construct_yaml_float(node)
        if isinf(number) and "inf" not in text.lower():
            raise _error(f"'{text}' is too large for a number", node)
        return number

    def refuse(self, node: yaml.ScalarNode) -> Any:
        advice = next(advice for pattern, advice in _REFUSED.items() if re.fullmatch(pattern, node.value))
        raise _error(f"'{node.value}' is ambiguous (YAML 1.1 and 1.2 differ): {advice.format(node.value)}", node)


def _error(message: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=message, problem_mark=getattr(place, "start_mark", place))


for _name, _pattern in [("refused", "|".join(_REFUSED)), *_CORE.items()]:
    _Reader.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), None)
for _name, _construct in [
    ("refused", _Reader.refuse),
    ("int", _Reader.construct_number),
    ("float", _Reader.construct_number),
    ("merge", _Reader.construct_yaml_str),
]:
    _Reader.add_constructor(_TAG + _name, _construct)
