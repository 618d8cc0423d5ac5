"""Types of an account's fields that a venue may write as numbers or as text, and how JSON becomes them."""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import msgspec

__all__ = ["NumberText", "WholeNumber", "converted", "json_decoder"]

T = TypeVar("T")

#: A whole number as text; no id or time has more digits.
_WHOLE: Final = re.compile(r"-?[0-9]{1,40}(?:\.0*)?")

if TYPE_CHECKING:
    NumberText: TypeAlias = str
    WholeNumber: TypeAlias = int
else:

    class NumberText(ABC):  # noqa: B024 - it stands for its subclasses alone
        """A field's type: a number as text, which the venue may write as text, as an integer or as a fraction."""

    class WholeNumber(ABC):  # noqa: B024
        """A field's type: an integer, which the venue may write as text, or as a fraction of zero (``8.0``)."""

    NumberText.register(str)
    WholeNumber.register(int)


def json_decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    """Return a decoder for a type with fields of :class:`NumberText` or :class:`WholeNumber`.

    Fractions keep the digits that the venue wrote; none becomes a float.
    """
    return msgspec.json.Decoder(kind, dec_hook=_field, float_hook=str)


def converted(members: Mapping[str, Any], kind: type[T]) -> T:
    """Return a struct made of members as :func:`json_decoder` would decode them.

    Raises:
        ValidationError: A member is missing or of another type.
    """
    return msgspec.convert(members, kind, dec_hook=_field)


def _field(kind: Any, value: Any) -> Any:
    if kind is NumberText and isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    if kind is WholeNumber and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind is WholeNumber and isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value.partition(".")[0])
    raise ValueError(f"expected a number, got {type(value).__name__}")
