"""JSON on disk, none of which is trusted."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from lightgcn_jax.errors import InputError
from lightgcn_jax.files import write_text

_LONGEST_JSON = 1 << 28
"""Bytes of a JSON document that is read; runs of a million epochs write shorter ones."""


def write_json(target: Path, value: Any) -> None:
    """Write indented JSON atomically.

    Args:
        target: the file; one that is there is replaced.
        value: a JSON value.

    Raises:
        ValueError: the value holds a NaN or an infinity, which JSON lacks.
    """
    write_text(target, json_text(value))


def json_text(value: Any) -> str:
    """Indented JSON, as it is written.

    Args:
        value: a JSON value.

    Raises:
        ValueError: the value holds a NaN or an infinity, which JSON lacks.
    """
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Read JSON.

    Args:
        path: the file.

    Raises:
        InputError: the file is missing, unreadable, longer than any that is written, or no JSON:
            nested very deep, with a NaN, or with a number of thousands of digits.
    """
    return parsed_json(path, _text_of(path))


def read_json_lines(path: Path) -> list[Any]:
    """Read a JSON value a line.

    Args:
        path: the file.

    Raises:
        InputError: as :func:`read_json`; the message names the line.
    """
    lines = _text_of(path).split("\n")
    return [
        parsed_json(f"{path}: line {number}", line, "a JSON object a line")
        for number, line in enumerate(lines, 1)
        if line
    ]


def _text_of(path: Path) -> str:
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # a pipe, which may never end
            raise InputError(f"{path}: expected a file of JSON, got something else")
        if (size := about.st_size) > _LONGEST_JSON:
            raise InputError(f"{path}: expected at most {_LONGEST_JSON:,} bytes, got {size:,}")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: expected this file, it is missing") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected JSON, got {error}") from None


def parsed_json(where: Any, text: str, expected: str = "JSON") -> Any:
    """The value of a JSON text.

    Args:
        where: the file, for messages.
        text: the text.
        expected: what is expected there.

    Raises:
        InputError: it is none, as :func:`read_json` says.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise InputError(f"{where}: expected {expected}, got values nested too deep") from None
    except ValueError as error:  # no JSON, or a whole number of thousands of digits
        raise InputError(f"{where}: expected {expected}, got {error}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name}, which JSON lacks")
