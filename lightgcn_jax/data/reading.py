"""How a file was read: what was guessed of it, in words that the command line takes back."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightgcn_jax.errors import InputError, printable

AUTO = "auto"
NONE = "none"
HEADERS = (AUTO, "yes", "no")
QUOTINGS = (AUTO, "csv", "backslash", NONE)
"""Whether "…" may enclose a field, with a quotation mark inside doubled (csv) or behind a
backslash; none takes quotation marks for text."""
BLANKS = "blanks"
"""The separator of words: any number of spaces and tabs."""
NULL_IDS = ("refuse", "keep")
MISSING = ("skip", "error")
ID_TYPES = (AUTO, "integers", "text")
_ORDER = (
    *("format", "encoding", "separator", "header", "quoting", "user_column", "item_column"),
    *("rating_column", "weight_column", "timestamp_column", "time_unit", "user_ids", "item_ids"),
)
_SEPARATORS = {"tab": "\t", "\\t": "\t", "space": " ", "comma": ",", "semicolon": ";", "pipe": "|"}
_NAMES = {"\t": "tab", " ": "space", ",": "comma", ";": "semicolon", "|": "pipe"}


@dataclass(frozen=True)
class Options:
    """What the caller says of a file; the rest is guessed.

    Attributes:
        columns: role -> a column's name, its place (#2, or 2 where no column is named so), or none.
        separator: what stands between fields; ``BLANKS``; None to go by the format and the first
            line.
        header: one of ``HEADERS``.
        quoting: one of ``QUOTINGS``.
        time_unit: one of ``TIME_UNITS`` or auto.
        encoding: a text encoding that Python knows, or auto.
        skip_bad_rows: whether rows that do not fit are left out and counted.
        missing: one of ``MISSING``, what becomes of rows without a user or an item.
        null_ids: one of ``NULL_IDS``, what becomes of ids such as "nan".
        user_ids: one of ``ID_TYPES``.
        item_ids: one of ``ID_TYPES``.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    separator: str | None = None
    header: str = AUTO
    quoting: str = AUTO
    time_unit: str = AUTO
    encoding: str = AUTO
    skip_bad_rows: bool = False
    missing: str = "skip"
    null_ids: str = "refuse"
    user_ids: str = AUTO
    item_ids: str = AUTO

    def ids_of(self, role: str) -> str:
        """Of which type the ids of a role are to be.

        Args:
            role: user or item.
        """
        return self.user_ids if role == "user" else self.item_ids

    def refuse(self, path: Path, format: str, **idle: object) -> None:
        """Refuses options that mean nothing in a format.

        Args:
            path: the file.
            format: its format.
            idle: names of options and the values, beside the defaults, that they may have.

        Raises:
            InputError: one of them was given.
        """
        for name, harmless in idle.items():
            value = getattr(self, name)
            if value not in (getattr(Options, name), harmless):
                raise InputError(
                    f"{path}: {name}={value!r} (--{name.replace('_', '-')}): means nothing in "
                    f"format {format}; leave it out or pass another format"
                )


@dataclass(frozen=True)
class Reading:
    """How one file was read.

    Attributes:
        file: its name.
        settings: what is to be said to read any such file in the same way: names of the options of
            ``read_interactions`` and their values, in order.
        guessed: those among them that nobody gave.
        notes: what else is worth knowing, a line each.
    """

    file: str
    settings: Mapping[str, str]
    guessed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ordered = {name: self.settings[name] for name in _ORDER if name in self.settings}
        object.__setattr__(self, "settings", ordered)

    def __str__(self) -> str:
        flags = " ".join(
            f"--{name.replace('_', '-')} {printable(shlex.quote(value))}"
            for name, value in self.settings.items()
        )
        guessed = ", ".join(name.replace("_", " ") for name in self.guessed)
        if len(self.guessed) == len(self.settings):
            guessed = "all of it"
        end = f" (guessed: {guessed})" if guessed else ""
        return f"{printable(self.file)}: read as {flags}{end}"

    @property
    def lines(self) -> tuple[str, ...]:
        """What to print: how the file was read, then the notes."""
        return (str(self), *(f"note: {printable(self.file)}: {note}" for note in self.notes))

    def record(self) -> dict[str, Any]:
        """The same as a JSON value."""
        return {
            "file": self.file,
            "read_as": dict(self.settings),
            "guessed": list(self.guessed),
            "notes": list(self.notes),
        }


def separator_of(text: str | None) -> str | None:
    """The separator that a user means: tab and \\t are a tab, and so on.

    Args:
        text: what the user wrote; None for nothing.

    Raises:
        InputError: it cannot stand between fields.
    """
    if text is None:
        return None
    mark = _SEPARATORS.get(text, text)
    if not mark:
        raise InputError("separator: expected at least one character, got an empty string")
    if any(sign in mark for sign in '\r\n\0"'):
        raise InputError(
            f"separator: expected what can stand between fields, got {text!r}, which holds a line "
            "end, a NUL or a quotation mark"
        )
    return mark


def separator_name(mark: str) -> str:
    """A separator as a user may write it.

    Args:
        mark: the separator.
    """
    return _NAMES.get(mark, mark)
