"""Types of knobs that a task is drawn from: a choice among values, and a span of whole numbers."""

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

Value = TypeVar("Value")


def _one_or_more(value: Any) -> Any:
    """A single value stands for the list of it."""
    return value if isinstance(value, (list, tuple)) or value is None else [value]


def _both_ends(span: list[int]) -> list[int]:
    """One number is both ends of a span."""
    first, last = span[0], span[-1]
    if first > last:
        raise ValueError(f"a span begins with its smaller end: did you mean [{last}, {first}]?")
    return [first, last]


Choices = Annotated[list[Value], BeforeValidator(_one_or_more), Field(min_length=1)]
"""Each task draws one of these values; a single value may be written without brackets."""

Span = Annotated[
    list[Annotated[int, Field(ge=0, le=200)]],
    BeforeValidator(_one_or_more),
    Field(min_length=1, max_length=2),
    AfterValidator(_both_ends),
]
"""Each task draws a whole number from this one to that one, both included; one number is both."""
