"""One or several, and answers as tables."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from lightgcn_jax.errors import InputError
from lightgcn_jax.fields import scalar
from lightgcn_jax.serving.answers import Answer, Ranked

Kind = Literal["polars", "pandas"]
"""Whose DataFrame."""


def is_many(value: Any) -> bool:
    """Whether several came: anything to go through that is no text.

    Args:
        value: one or several.
    """
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes))


def as_list(value: Any) -> list[Any] | None:
    """One or several as a list; None as it is.

    Args:
        value: one or several.
    """
    value = scalar(value)
    if value is None:
        return None
    return list(value) if is_many(value) else [value]


def frame_of(asked: Any, found: Answer, kind: Kind, columns: tuple[str | None, str]) -> Any:
    """Answers as a DataFrame: who asked, what was found, ``rank`` from 1 on, and ``score``.

    Args:
        asked: an id, or several.
        found: what each was answered; for several a list.
        kind: whose DataFrame.
        columns: names of the first two columns; None leaves the first out.

    Raises:
        InputError: pandas is not installed, or the kind is another.
    """
    if kind not in get_args(Kind):
        raise InputError(f"as_frame: expected True, 'polars' or 'pandas', got {kind!r}")
    answers = [found] if isinstance(found, Ranked) else found
    rows = [
        (one, ranked)
        for one, ranked in zip(as_list(asked) or [None], answers, strict=True)
        if ranked is not None
    ]
    lengths = [len(ranked.ids) for _, ranked in rows]
    table: dict[str, Any] = {}
    if columns[0] is not None:
        table[columns[0]] = [
            one for (one, _), n in zip(rows, lengths, strict=True) for _ in range(n)
        ]
    table |= {
        columns[1]: [identifier for _, ranked in rows for identifier in ranked.ids],
        "rank": [place + 1 for n in lengths for place in range(n)],
        "score": np.concatenate([ranked.scores for _, ranked in rows] or [np.zeros(0)]),
    }
    if kind == "polars":
        return pl.DataFrame(table)
    if importlib.util.find_spec("pandas") is None:
        raise InputError("as_frame: pandas is not installed; as_frame='polars' needs none")
    return importlib.import_module("pandas").DataFrame(table)
