"""Layouts: what separates, names and encloses the fields of one file, guessed where nobody says."""

import re
from collections.abc import Sequence

from lightgcn_jax.data.cells import Columns, Unjudged
from lightgcn_jax.data.delimited import Layout, first_lines, first_records, read_lists, table_rows
from lightgcn_jax.data.formats import SEPARATORS, header_separator, plain_name
from lightgcn_jax.data.reading import AUTO, BLANKS, NONE, Options, Reading, separator_name
from lightgcn_jax.data.roles import is_place, roles_by_name, roles_by_place, usual_column
from lightgcn_jax.data.text import PlainText
from lightgcn_jax.data.times import dated
from lightgcn_jax.errors import InputError

_HEAD = 100  # records that tell whether the first one is a header
_VALUE = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|\d{4}-\d\d-\d\d.*")


def read_adjacency(text: PlainText, format: str, options: Options) -> Columns:
    """Reads lines 'user item item …'.

    Args:
        text: The file.
        format: adjacency.
        options: What the caller says of it.

    Raises:
        InputError: It cannot be read, or a line does not fit.
    """
    options.refuse(text.source, format, header="no", quoting=NONE, time_unit=AUTO)
    if options.columns:
        roles = ", ".join(f"{role}_column" for role in options.columns)
        raise InputError(
            f"{text.source}: {roles}: lines 'user item item …' (format adjacency) have no columns; "
            "leave this out or pass another format"
        )
    settings = {"format": format}
    if options.separator is not None:
        settings["separator"] = separator_name(options.separator)
    reading = Reading(text.source.name, _with_encoding(settings, text), notes=text.notes)
    separator = None if options.separator == BLANKS else options.separator
    return read_lists(text, separator, options, reading)


def read_recbole(text: PlainText, format: str, options: Options) -> Columns:
    """Reads an atomic file of RecBole, whose header has cells name:type.

    Args:
        text: The file.
        format: recbole.
        options: What the caller says of it.

    Raises:
        InputError: It cannot be read, or a line does not fit.
    """
    options.refuse(text.source, format, header="yes")
    separator = options.separator or "\t"
    separator = " " if separator == BLANKS else separator
    quoting = _quoting(text, separator, NONE, options)
    number, cells = first_records(text, separator, quoting, False, 1)[0]
    typed = [cell.strip().partition(":") for cell in cells]
    if len(cells) < 2 or not all(colon for _, colon, _ in typed):
        marks = [mark for mark in SEPARATORS if _is_typed(cells, separator, mark)]
        advice = f"; pass separator {separator_name(marks[0])}" if marks else ""
        raise InputError(
            f"{text.source}:{number}: expected a header of name:type cells (user_id:token …) apart "
            f"by {separator_name(separator)}, got {separator.join(cells)[:100]!r}{advice}"
        )
    names = tuple(name for name, _, _ in typed)
    roles = roles_by_name(text.source, names, options.columns)
    layout = Layout(separator, names, roles, number, quoting)
    return _rows(text, format, layout, options).judged()


def _is_typed(cells: Sequence[str], separator: str, mark: str) -> bool:
    split = separator.join(cells).strip().split(mark)
    return len(split) > 1 and all(":" in cell for cell in split)


def read_separated(text: PlainText, format: str, options: Options) -> Columns:
    """Reads a table with or without a header.

    Args:
        text: The file.
        format: triples, csv, tsv, movielens or hetrec.
        options: What the caller says of it.

    Raises:
        InputError: It cannot be read, or a line does not fit.
    """
    return separated_rows(text, format, options).judged()


def separated_rows(text: PlainText, format: str, options: Options) -> Unjudged:
    """The rows of a table with or without a header.

    Args:
        text: The file.
        format: triples, csv, tsv, movielens or hetrec.
        options: What the caller says of it.

    Raises:
        InputError: It cannot be read.
    """
    headless = format == "triples"
    if format == "movielens":
        headless = not plain_name(text.source).lower().endswith(".csv")
    separator = options.separator or _separator(text, format, headless, options)
    separator = " " if separator == BLANKS else separator
    words = separator == " " and options.separator in (None, BLANKS)
    encloses = not (headless or words) and separator != "\t" and len(separator) == 1
    quoting = _quoting(text, separator, "csv" if encloses else NONE, options)
    runs = words and quoting == NONE
    head = first_records(text, separator, quoting, runs, _HEAD)
    number, first = head[0]
    names = [cell.strip() for cell in first]
    if _has_header(text, head, headless, options):
        body = [cells for _, cells in head[1:] if len(cells) == len(names)]
        found = dated({at: [cells[at] for cells in body] for at in range(len(names))})
        dates = [names[at] for at in found]
        roles = roles_by_name(text.source, names, options.columns, dates)
        layout = Layout(separator, tuple(names), roles, number, quoting, runs)
    else:
        roles = roles_by_place(text.source, len(first), options.columns)
        named = {place: role for role, place in roles.places.items()}
        titles = tuple(named.get(at) or str(at + 1) for at in range(len(first)))
        layout = Layout(separator, titles, roles, 0, quoting, runs)
    return _rows(text, format, layout, options)


def _rows(text: PlainText, format: str, layout: Layout, options: Options) -> Unjudged:
    settings = {
        "format": format,
        "separator": BLANKS if layout.runs else separator_name(layout.separator),
        "header": "yes" if layout.header_line else "no",
        "quoting": layout.quoting,
    }
    for role, place in layout.roles.places.items():
        name = layout.names[place] if layout.header_line else str(place + 1)
        unsure = layout.names.count(name) > 1 or not name or is_place(name) or name == NONE
        settings[f"{role}_column"] = f"#{place + 1}" if unsure and layout.header_line else name
    notes = (*text.notes, *layout.roles.notes)
    reading = Reading(text.source.name, _with_encoding(settings, text), notes=notes)
    return table_rows(text, layout, options, reading)


def _with_encoding(settings: dict[str, str], text: PlainText) -> dict[str, str]:
    return settings if text.encoding == "utf-8" else settings | {"encoding": text.encoding}


def _separator(text: PlainText, format: str, headless: bool, options: Options) -> str:
    _, first = first_lines(text, 1)[0]
    if not headless and (mark := header_separator(first, options)) is not None:
        return mark
    usual = "\t" if format in ("tsv", "hetrec") else ","
    if headless:
        return next((mark for mark in ("::", "\t", ",", ";", "|") if mark in first), " ")
    if usual in first:
        return usual
    return max((";", "\t", "|", ","), key=first.count)


def _quoting(text: PlainText, separator: str, own: str, options: Options) -> str:
    """Whether quotation marks enclose fields: by the format's own rule, or as the first line has
    them, all of whose fields (or those of the next) stand in quotation marks."""
    if options.quoting != AUTO:
        if options.quoting != NONE and len(separator) > 1:
            raise InputError(
                f"{text.source}: quoting {options.quoting}: expected a separator of one character, "
                f"got {separator!r}"
            )
        return options.quoting
    if own != NONE or not text.has_quotes or len(separator) > 1:
        return own
    for _, line in first_lines(text, 2):
        cells = [cell.strip() for cell in line.split(separator)]
        if all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells):
            return "csv"
    return NONE


def _has_header(
    text: PlainText, head: list[tuple[int, list[str]]], headless: bool, options: Options
) -> bool:
    """Whether the first record names the columns."""
    if options.header != AUTO:
        return options.header == "yes"
    names = [cell.strip() for cell in head[0][1]]
    asked = [name for name in options.columns.values() if name != NONE]
    if not all(map(is_place, asked)):
        return True
    if all(usual_column(role, names) is not None for role in ("user", "item")):
        return True
    # Two columns are users and items, whatever they are called, where there are names at all.
    two = len(names) == 2 and not any(
        usual_column(role, names) is not None for role in ("rating", "timestamp")
    )
    if not (headless or two) and not {"user", "item"} <= options.columns.keys():
        return True
    # pandas writes columns without names as 0, 1, 2, which may as well be a row.
    counted = names == [str(at) for at in range(len(names))]
    if any(map(_is_value, names)) and (headless or not counted):
        return False
    body = [cells for _, cells in head[1:] if len(cells) == len(names)]
    columns = range(len(names) if body else 0)
    numbers_below = any(all(_is_value(cells[at]) for cells in body) for at in columns)
    if headless and not numbers_below:
        return False  # as the format says, and nothing speaks against it
    if numbers_below and not (headless or counted):
        return True
    raise InputError(
        f"{text.source}:{head[0][0]}: the first line can be read in two ways, as names of columns "
        f"or as a row, got {', '.join(names)[:80]!r}; pass header yes or no (--header …)"
    )


def _is_value(cell: str) -> bool:
    """Whether a cell holds a number or a date, as no name of a column does."""
    return _VALUE.fullmatch(cell.strip()) is not None
