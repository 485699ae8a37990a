"""What the fields of a frozen dataclass may hold: checked once, where a value is made."""

from __future__ import annotations

import copy
import dataclasses
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar, get_args

from lightgcn_jax.errors import InputError

_Owner = TypeVar("_Owner")
INT32 = 2**31 - 1
LAYERS = 1_000
"""The most layers, or terms of a polynomial, that are no mistake: each is a part of the program."""

# Characters of a value in a message.
_LONGEST_SHOWN = 200


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


class _TooLarge(ValueError):
    """A number of the right kind, beyond what can be meant."""


def whole(least: int, most: int | None = INT32) -> Kind:
    """Whole numbers.

    Args:
        least: the smallest that is accepted.
        most: the largest; None for no limit. What enters a compiled program is an ``int32``.
    """

    def convert(value: Any) -> int:
        value = scalar(value)
        # True and False are whole numbers to Python, and to nobody else.
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
            raise ValueError
        number = int(value)
        if most is not None and number > most:
            raise _TooLarge(f"at most {most:,}")
        return number

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


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


TEXT = Kind("text", _text)
"""Any text."""


def record(
    required: Mapping[str, Kind],
    optional: Mapping[str, Kind] | None = None,
    *,
    closed: bool = False,
) -> Kind:
    """Objects of JSON that have certain fields.

    Args:
        required: the kind of each that must be there.
        optional: the kind of each that may be there.
        closed: whether it may have no others; else these stay as they are.
    """
    kinds = {**required, **(optional or {})}

    def convert(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise TypeError
        for name in required:
            if name not in value:
                raise InputError(f"{name}: expected {required[name].expected}, it is missing")
        for name in value if closed else ():
            if name not in kinds:
                raise InputError(f"{name}: expected no such field")
        known = (name for name in kinds if name in value)
        return {**value, **{name: checked(name, value[name], kinds[name]) for name in known}}

    return Kind("an object", convert)


ANYTHING = record({})
"""Objects of JSON with any fields."""


def table_of(kind: Kind) -> Kind:
    """Objects of JSON whose values are all of a kind.

    Args:
        kind: theirs.
    """

    def convert(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise TypeError
        return {name: checked(name, one, kind) for name, one in value.items()}

    return Kind("an object", convert)


def list_of(kind: Kind) -> Kind:
    """Lists of JSON whose values are all of a kind.

    Args:
        kind: theirs.
    """

    def convert(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise TypeError
        return [checked(f"[{place}]", one, kind) for place, one in enumerate(value)]

    return Kind("a list", convert)


def document(path: Any, value: Any, kind: Kind) -> Any:
    """What a file of JSON holds, as it is kept.

    Args:
        path: the file, for messages.
        value: what it holds.
        kind: its kind.

    Raises:
        InputError: it is of another kind; the message names the file and the way to the field,
            ``config.json: split.notes[0]``.
    """
    try:
        return kind.convert(value)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except _TooLarge as error:
        raise InputError(f"{path}: expected {error}, got {_shown(value)}") from None
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{path}: expected {kind.expected}, got {_shown(value)}") from None


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
    except InputError as error:  # of a field within
        within = str(error)
        raise InputError(name + ("" if within.startswith("[") else ".") + within) from None
    except _TooLarge as error:
        raise InputError(f"{name}: expected {error}, got {_shown(value)}") from None
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name}: expected {kind.expected}, got {_shown(value)}") from None


def _shown(value: Any) -> str:
    """What came, for a message: a foreign file may hold a very long one."""
    try:
        text = repr(scalar(value))
    except ValueError:  # Python writes no whole number of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]} …"


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
