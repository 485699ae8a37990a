"""What the fields of a frozen dataclass may hold: checked once, where a value is made."""

from __future__ import annotations

import copy
import dataclasses
import math
import numbers
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar, get_args

from lightgcn_jax.errors import InputError

_Owner = TypeVar("_Owner")


class Kind(NamedTuple):
    """A kind of value.

    Attributes:
        expected: what an error says that it expected.
        convert: from a value to the one that is kept; it raises ValueError or TypeError for a value
            of another kind.
    """

    expected: str
    convert: Callable[[Any], Any]


def scalar(value: Any) -> Any:
    """A NumPy or JAX scalar as a Python number; everything else unchanged.

    Args:
        value: anything.
    """
    return value.item() if getattr(value, "ndim", None) == 0 else value


def whole(least: int) -> Kind:
    """Whole numbers.

    Args:
        least: the smallest that is accepted.
    """

    def convert(value: Any) -> int:
        value = scalar(value)
        # True and False are whole numbers to Python, and to nobody else.
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
            raise ValueError
        return int(value)

    return Kind(f"a whole number of at least {least}", convert)


def number(accepts: Callable[[float], bool] = lambda _: True, expected: str = "a number") -> Kind:
    """Finite numbers.

    Args:
        accepts: further condition.
        expected: what an error says that it expected.
    """

    def convert(value: Any) -> float | int:
        value = scalar(value)
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError
        if not (math.isfinite(value) and accepts(float(value))):
            raise ValueError
        return int(value) if isinstance(value, numbers.Integral) else float(value)

    return Kind(expected, convert)


def at_least(least: float) -> Kind:
    """Finite numbers with a lower bound.

    Args:
        least: the smallest that is accepted.
    """
    return number(lambda value: value >= least, f"a number of at least {least:g}")


POSITIVE = number(lambda value: value > 0, "more than 0")
"""Finite numbers above 0."""

SHARE = number(lambda value: 0 <= value < 1, "a share of at least 0 and below 1")
"""Shares of which something always remains: [0, 1)."""


def one_of(choices: Any) -> Kind:
    """Names.

    Args:
        choices: a ``Literal`` type, or the names.
    """
    names = tuple(get_args(choices) or choices)

    def convert(value: Any) -> Any:
        if value not in names:
            raise ValueError
        return value

    return Kind(f"one of {names}", convert)


def _switch(value: Any) -> bool:
    value = scalar(value)
    if not isinstance(value, bool):
        raise TypeError
    return value


SWITCH = Kind("True or False", _switch)
"""True or False."""


def optional(kind: Kind) -> Kind:
    """None, or a value of a kind.

    Args:
        kind: the kind.
    """
    return Kind(
        f"None or {kind.expected}", lambda value: None if value is None else kind.convert(value)
    )


def several(kind: Kind, expected: str) -> Kind:
    """Sequences of a kind, kept as tuples.

    Args:
        kind: of each element.
        expected: what an error says that it expected.
    """

    def convert(values: Any) -> tuple:
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise TypeError
        return tuple(kind.convert(value) for value in values)

    return Kind(expected, convert)


def checked(name: str, value: Any, kind: Kind) -> Any:
    """A value of a kind, as it is kept.

    Args:
        name: what the error calls it.
        value: what came.
        kind: its kind.

    Raises:
        InputError: the value is of another kind.
    """
    try:
        return kind.convert(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name}: expected {kind.expected}, got {scalar(value)!r}") from None


def check_fields(owner: Any, **kinds: Kind) -> None:
    """Check fields of a frozen dataclass, and keep NumPy and JAX scalars as Python numbers.

    To be called in ``__post_init__``.

    Args:
        owner: the dataclass instance.
        kinds: the kind of each field by its name.

    Raises:
        InputError: a field holds a value of another kind.
    """
    for name, kind in kinds.items():
        object.__setattr__(owner, name, checked(name, getattr(owner, name), kind))


def setting(default: Any, kind: Kind) -> Any:
    """A field of a :class:`Checked` dataclass.

    Args:
        default: its value by default.
        kind: what it may hold.
    """
    return dataclasses.field(default=default, metadata={"kind": kind})


class Checked:
    """What frozen dataclasses derive from whose fields are made by :func:`setting`.

    A subclass that gives a field another default keeps its kind.

    Raises:
        InputError: a field holds a value of another kind.
    """

    def __post_init__(self):
        owners = reversed(type(self).__mro__)
        fields = [field for one in owners for field in _fields(one) if "kind" in field.metadata]
        check_fields(self, **{field.name: field.metadata["kind"] for field in fields})


def _fields(owner: Any) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(owner) if dataclasses.is_dataclass(owner) else ()


def with_traced(owner: _Owner, **values: Any) -> _Owner:
    """A copy of a frozen dataclass that holds traced numbers, which no check can look at.

    Args:
        owner: a dataclass instance, or any other object, which is returned as it is.
        values: fields by name; those that the owner does not have are passed over.
    """
    if not dataclasses.is_dataclass(owner):
        return owner
    known = {field.name for field in dataclasses.fields(owner)} & values.keys()
    changed = copy.copy(owner)
    for name in known:
        object.__setattr__(changed, name, values[name])
    return changed
