"""Quoted text: records whose fields may be enclosed in quotation marks, read by strict rules.

A quotation mark at the start of a field opens it, one inside is doubled (or stands behind a
backslash), and the closing one must be followed by a separator or the end of the line. Marks
elsewhere are text. Python's own parser in its strict mode has these rules.
"""

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import polars as pl

from lightgcn_jax.data.text import PlainText

_ROWS = 100_000  # collected before they become columns


class Record(NamedTuple):
    """One record of a text.

    Attributes:
        line: the number of its first line.
        cells: its fields; none where the line is blank.
        fault: why it is no record, or None.
    """

    line: int
    cells: list[str]
    fault: str | None = None


def records(text: PlainText, separator: str, quoting: str) -> Iterator[Record]:
    """Record after record of a text, as :func:`records_of` gives them.

    Args:
        text: the text.
        separator: one character.
        quoting: csv or backslash.
    """
    return records_of(text.open_lines(), separator, quoting)


def records_of(text: Iterable[str], separator: str, quoting: str = "csv") -> Iterator[Record]:
    """Record after record.

    After one that does not keep the rules, reading goes on with the line behind its first one.

    Args:
        text: the lines of a text, with their ends.
        separator: one character.
        quoting: csv or backslash.
    """
    lines = iter(text)
    waiting: deque[str] = deque()
    held: list[str] = []

    def feed() -> Iterator[str]:
        while True:
            line = waiting.popleft() if waiting else next(lines, None)
            if line is None:
                return
            held.append(line)
            yield line

    number = 1
    escape = "\\" if quoting == "backslash" else None
    while True:
        reader = csv.reader(feed(), delimiter=separator, escapechar=escape, strict=True)
        try:
            for cells in reader:
                blank = len(cells) < 2 and not "".join(cells).strip()
                yield Record(number, [] if blank else cells)
                number += len(held)
                held.clear()
            return
        except csv.Error as error:
            first, *rest = held
            yield Record(number, [first.rstrip("\r\n")], _explained(str(error), separator))
            waiting.extendleft(reversed(rest))
            held.clear()
            number += 1


def _explained(words: str, separator: str) -> str:
    """What the parser found, in words that say what to look for."""
    if "expected after" in words:
        return (
            f"expected {separator!r} or the end of the line behind a closing quotation mark, got "
            "other text; a quotation mark at the start of a field opens it (--quoting none takes "
            "all marks for text)"
        )
    if "unexpected end" in words or "field larger" in words:
        return (
            "a quotation mark opens a field here, and none closes it within "
            f"{csv.field_size_limit():,} characters (--quoting none takes all marks for text)"
        )
    if "new-line" in words:
        return "a carriage return stands within the line"
    return "the line does not follow the rules of quoted text"


def quoted_rows(
    text: PlainText, separator: str, quoting: str, header_line: int, places: dict[str, int],
    width: int,
) -> pl.LazyFrame:  # fmt: skip
    """The chosen fields of all records below the header.

    Args:
        text: the text.
        separator: one character.
        quoting: csv or backslash.
        header_line: the first line of the header; 0 for none.
        places: role -> place of its field.
        width: how many fields a record has.

    Returns:
        number (of the record's first line), fits (whether it is a record of that width) and a
        column of text for each role, null where it does not fit.
    """
    schema = {"number": pl.UInt32, "fits": pl.Boolean, **dict.fromkeys(places, pl.String)}
    wanted = tuple(places.values())
    frames: list[pl.DataFrame] = []
    rows: list[tuple] = []
    nothing = (False, *(None for _ in wanted))
    for line, cells, fault in records(text, separator, quoting):
        if line <= header_line or (not cells and fault is None):
            continue
        if fault is None and len(cells) == width:
            rows.append((line, True, *[cells[place] for place in wanted]))
        else:
            rows.append((line, *nothing))
        if len(rows) == _ROWS:
            frames.append(pl.DataFrame(rows, schema=schema, orient="row"))
            rows = []
    frames.append(pl.DataFrame(rows, schema=schema, orient="row"))
    return pl.concat(frames).lazy()
