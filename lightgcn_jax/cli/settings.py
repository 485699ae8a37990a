"""What is printed of flags, and flags of settings, of which only those that are given count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict

import tyro


def flag(metavar: str, hint: str = "", name: str | None = None) -> Any:
    """What tyro is to print of a flag.

    Args:
        metavar: stands for the value.
        hint: stands behind the help text.
        name: of the flag, where it is not the field's.
    """
    return tyro.conf.arg(name=name, metavar=metavar, help_behavior_hint=hint)


File = Annotated[Path | None, flag("FILE")]


def settings_type(kinds: Mapping[str, Any], documentation: str, hint: Callable[[str], str]) -> Any:
    """A TypedDict of settings; what is not given is not in the dict.

    Args:
        kinds: the type of each setting by its name.
        documentation: a docstring whose ``Attributes`` are the help texts.
        hint: gives for a name what ``--help`` says behind its text.
    """
    flags = {
        name: Annotated[kind, tyro.conf.arg(help_behavior_hint=hint(name))]
        for name, kind in kinds.items()
    }
    # Made of values, which a type checker does not follow.
    make: Any = TypedDict
    settings = make("Settings", flags, total=False)
    settings.__doc__ = documentation
    return settings


def shown(value: Any) -> str:
    """A value as it is given on the command line.

    Args:
        value: a setting's value.
    """
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
