"""A prepared folder as the data of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from lightgcn_jax.cli.source import Source
from lightgcn_jax.data import PARTS, Split
from lightgcn_jax.errors import InputError
from lightgcn_jax.prepared import Prepared, is_prepared, open_prepared


def prepared_of(source: Source) -> Prepared | None:
    """The prepared folder that ``--data`` names; None where it names anything else.

    Args:
        source: where interactions come from.

    Raises:
        InputError: the folder is not finished or damaged, or a flag says how to read files.
    """
    if source.data is None or not is_prepared(source.data):
        return None
    plain = Source(data=source.data)
    for one in fields(Source):
        if getattr(source, one.name) != getattr(plain, one.name):
            flag = "a flag of files" if one.name == "file_format" else f"--{one.name}"
            raise InputError(
                f"{flag.replace('_', '-')}: expected without a prepared folder, in which rows were "
                f"read and split when it was made, got --data {source.data}"
            )
    return open_prepared(source.data)


def prepared_lines(source: Source, prepared: Prepared, split: Split) -> Iterator[str]:
    """What is trained on, a line at a time.

    Args:
        source: where it comes from.
        prepared: the folder.
        split: its parts, under a protocol.
    """
    yield f"Data {source.name}, prepared of {prepared.manifest['rows_read']:,} rows:"
    for change in split.report:
        yield f"  {change}"
    yield f"Split: {split.description}"
    yield "  " + ", ".join(f"{len(getattr(split, part)):,} {part}" for part in PARTS)
    for note in split.notes:
        yield f"  {note}"


def recorded(source: Source, prepared: Prepared) -> dict[str, Any]:
    """What was given, as a JSON value, for the run to remember.

    Args:
        source: where interactions come from.
        prepared: the folder.
    """
    readings = [
        {"file": "", "read_as": read_as, "guessed": [], "notes": []}
        for read_as in prepared.manifest["readings"]
    ]
    return source.record() | {"prepared": prepared.manifest["settings"], "readings": readings}
