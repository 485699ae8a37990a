"""JSON lines: an object on each line -> rows."""

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import polars as pl

from lightgcn_jax.data.cells import Columns, Rows, columns_of
from lightgcn_jax.data.reading import AUTO, NONE, Options, Reading
from lightgcn_jax.data.roles import roles_by_name
from lightgcn_jax.data.text import PlainText
from lightgcn_jax.data.times import dated
from lightgcn_jax.errors import InputError

_ROWS = 100_000  # collected before they become columns
_HEAD = 100  # lines whose keys are the columns
_SHOWN = 100


class _NotALine(ValueError):
    """Why a line is none of this format."""


def read_json_lines(text: PlainText, format: str, options: Options) -> Columns:
    """Reads an object from every line that is not blank.

    Ids are strings or integers; other values of the objects are not looked at.

    Args:
        text: The file.
        format: jsonl.
        options: What the caller says of it.

    Raises:
        InputError: The file cannot be read, or a line does not fit.
    """
    options.refuse(text.source, format, separator=None, header=AUTO, quoting=NONE)
    names: dict[str, None] = {}
    head: list[dict[str, Any]] = []
    for number, line in islice(_filled(text), _HEAD):
        try:
            head.append(_object(line))
            names |= dict.fromkeys(head[-1])
        except _NotALine as reason:
            if not names:
                raise InputError(f"{text.source}:{number}: {reason}") from None
    if not names:
        raise InputError(f"{text.source}: expected interactions, but the file is empty")
    columns = list(names)
    cells = {key: [one.get(key) for one in head] for key in columns}
    roles = roles_by_name(text.source, columns, options.columns, dated(cells))
    keys = {role: columns[place] for role, place in roles.places.items()}

    def explain(number: int) -> str:
        line = next(line for at, line in _filled(text) if at == number)
        try:
            _row(line, keys)
        except _NotALine as reason:
            return str(reason)
        return "expected a JSON object"

    rows = Rows(
        path=text.source,
        table=_table(text, keys),
        names={role: f"key {key!r}" for role, key in keys.items()},
        explain=explain,
        by_name=roles.assumed,
    )
    settings = {"format": format} | {f"{role}_column": key for role, key in keys.items()}
    reading = Reading(text.source.name, settings, notes=(*text.notes, *roles.notes))
    return columns_of(rows, options, reading)


def _filled(text: PlainText) -> Iterator[tuple[int, str]]:
    lines = enumerate(text.open_lines(), start=1)
    return ((number, line) for number, line in lines if not line.isspace())


def _object(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        start = line.strip()[:_SHOWN]
        if start.startswith("{'"):
            raise _NotALine(
                f"expected JSON, got an object in Python's notation: {start!r}"
            ) from None
        raise _NotALine(f"expected a JSON object on a line of its own, got {start!r}") from None
    if not isinstance(value, dict):
        raise _NotALine(
            f"expected a JSON object on a line of its own, got {_kind(value)}: "
            f"{line.strip()[:_SHOWN]!r}"
        )
    return value


def _row(line: str, keys: dict[str, str]) -> list[str | None]:
    """The cells of one line, as text."""
    value = _object(line)
    cells: list[str | None] = []
    for role, key in keys.items():
        cell = value.get(key)
        if isinstance(cell, str):
            if not cell.isascii():
                cell = cell.encode("utf-8", errors="replace").decode()
        elif isinstance(cell, bool) or not isinstance(cell, (int, float)):
            if cell is not None and role in ("user", "item"):
                raise _NotALine(
                    f"key {key!r}: expected an id, a string or an integer, got {_kind(cell)}"
                )
            cell = None if cell is None else json.dumps(cell)[:_SHOWN]
        elif isinstance(cell, float) and role in ("user", "item"):
            raise _NotALine(f"key {key!r}: expected an id, a string or an integer, got {cell!r}")
        else:
            try:
                cell = str(cell)
            except ValueError:
                raise _NotALine(
                    f"key {key!r}: expected a number, got thousands of digits"
                ) from None
        cells.append(cell)
    return cells


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
    return "nothing" if value is None else names.get(type(value), "a number")


def _table(text: PlainText, keys: dict[str, str]) -> pl.LazyFrame:
    schema = {"number": pl.UInt32, "fits": pl.Boolean, **dict.fromkeys(keys, pl.String)}
    frames: list[pl.DataFrame] = []
    rows: list[tuple] = []
    for number, line in _filled(text):
        try:
            rows.append((number, True, *_row(line, keys)))
        except _NotALine:
            rows.append((number, False, *(None for _ in keys)))
        if len(rows) == _ROWS:
            frames.append(pl.DataFrame(rows, schema=schema, orient="row"))
            rows = []
    frames.append(pl.DataFrame(rows, schema=schema, orient="row"))
    return pl.concat(frames).lazy()
