"""Types of knobs that a task is drawn from: a choice among values, and a span of whole numbers."""

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

Value = TypeVar("Value")


def _one_or_more(value: Any) -> Any:
    """A single value stands for the list of it."""
    return value if isinstance(value, (list, tuple)) or value is None else [value]


def _both_ends(value: Any) -> Any:
    """One number is both ends of a span."""
    value = _one_or_more(value)
    return list(value) * 2 if isinstance(value, (list, tuple)) and len(value) == 1 else value


def _in_order(span: list[int]) -> list[int]:
    if span[0] > span[1]:
        raise ValueError(f"a span begins with its smaller end: did you mean [{span[1]}, {span[0]}]?")
    return span


Choices = Annotated[list[Value], BeforeValidator(_one_or_more), Field(min_length=1)]
"""Each task draws one of these values; a single value may be written without brackets."""

Span = Annotated[
    list[Annotated[int, Field(ge=0, le=200)]],
    BeforeValidator(_both_ends),
    Field(min_length=2, max_length=2),
    AfterValidator(_in_order),
]
"""Each task draws a whole number from this one to that one, both included; one number is both."""
