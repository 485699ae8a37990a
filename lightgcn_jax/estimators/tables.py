"""One or several, and answers as tables."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import polars as pl

from lightgcn_jax.data.titles import Titles
from lightgcn_jax.errors import InputError
from lightgcn_jax.fields import scalar
from lightgcn_jax.serving.answers import Answer, ItemSet, Ranked
from lightgcn_jax.serving.filters import user_pairs
from lightgcn_jax.serving.tables import answer_columns

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


def as_filter(given: Any, name: str, columns: tuple[str, str]) -> Any:
    """A filter as serving takes it: what differs by user with its columns first, an array, a Series
    or a set of items as it is, other items for everybody as a list.

    Args:
        given: an id, several, or each user's own; None for no filter.
        name: what an error calls it.
        columns: what users and items are called where they came from.
    """
    wanted, table = list(columns), given
    if isinstance(given, Mapping) and set(wanted) == set(given):
        table = pl.DataFrame(given)
    if set(wanted) <= set(getattr(table, "columns", ())):
        given = table[wanted]
    given = scalar(given)
    if hasattr(given, "dtype") or isinstance(given, ItemSet):
        return given
    return as_list(given) if user_pairs(given, name) is None else given


def frame_of(
    asked: Any,
    found: Answer,
    kind: Kind,
    columns: tuple[str | None, str],
    titles: Titles | None = None,
) -> Any:
    """Answers as a DataFrame: who asked, what was found, its ``title`` where the data have titles,
    ``rank`` from 1 on, and ``score``.

    Args:
        asked: an id, or several.
        found: what each was answered; for several a list.
        kind: whose DataFrame.
        columns: names of the first two columns; None leaves the first out.
        titles: of what was found; None where the data have none.

    Raises:
        InputError: pandas is not installed, or the kind is another.
    """
    if kind not in get_args(Kind):
        raise InputError(f"as_frame: expected True, 'polars' or 'pandas', got {kind!r}")
    answers = [found] if isinstance(found, Ranked) else found
    table = answer_columns(as_list(asked) or [None], answers, columns, titles)
    if kind == "polars":
        return pl.DataFrame(table)
    if importlib.util.find_spec("pandas") is None:
        raise InputError("as_frame: pandas is not installed; as_frame='polars' needs none")
    return importlib.import_module("pandas").DataFrame(table)
