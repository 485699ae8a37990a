"""Flags of a dataclass of settings, of which only those that are given count."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, TypedDict, get_type_hints

import tyro


def settings_type(config: type, hint: Callable[[dataclasses.Field], str]) -> Any:
    """A TypedDict whose names, types and help texts are those of a dataclass; what is not given is
    not in the dict.

    Args:
        config: the dataclass.
        hint: what ``--help`` says behind a field's text.
    """
    kinds = get_type_hints(config)
    flags = {
        field.name: Annotated[kinds[field.name], tyro.conf.arg(help_behavior_hint=hint(field))]
        for field in dataclasses.fields(config)
    }
    # Made of values, which a type checker does not follow.
    make: Any = TypedDict
    settings = make("Settings", flags, total=False)
    settings.__doc__ = config.__doc__
    return settings


def shown(value: Any) -> str:
    """A value as it is given on the command line."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
