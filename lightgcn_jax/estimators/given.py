"""What people pass to ``fit``: frames, arrays, matrices, paths -> interactions, and what was
guessed."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import scipy.sparse

from lightgcn_jax.data import (
    Interactions,
    Split,
    dataset_names,
    given_split,
    load_dataset,
    positives,
    read_interactions,
)
from lightgcn_jax.data.columns import columns_of, numbers_of, seconds_of
from lightgcn_jax.data.faults import REFUSED_BY
from lightgcn_jax.data.roles import COLUMN_NAMES, usual_column
from lightgcn_jax.data.times import dated
from lightgcn_jax.errors import InputError, first_line

_READERS = {
    "rating": lambda column: numbers_of(column, "rating", np.float32),
    "timestamp": lambda column: seconds_of(column, "timestamp"),
}
_HEAD = 100  # rows that tell which columns hold dates
_FLAG = re.compile(r"--([a-z][a-z-]*) ?")


class Named(NamedTuple):
    """The columns that somebody named.

    Attributes:
        user: the column of users; None where it is to be found by its name.
        item: likewise of items.
        rating: likewise of ratings.
        timestamp: likewise of times.
        weight: the column of weights; None where there are none.
    """

    user: Any = None
    item: Any = None
    rating: Any = None
    timestamp: Any = None
    weight: Any = None


NOTHING_NAMED = Named()
"""Nobody named any column."""


class Given(NamedTuple):
    """What was passed.

    Attributes:
        interactions: every row that was read, before ``min_rating``; None where a split came.
        data: what to train on: a split, or one interaction for each pair that counts.
        names: what users and items are called in what came.
        is_pandas: whether a pandas frame came, so that answers in frames are pandas' too.
        lines: what was guessed, a sentence each.
    """

    interactions: Interactions | None
    data: Split | Interactions
    names: tuple[str, str] = ("user", "item")
    is_pandas: bool = False
    lines: tuple[str, ...] = ()


def given_data(
    data: Any, items: Any = None, named: Named = NOTHING_NAMED, min_rating: float | None = None
) -> Given:
    """Whatever ``fit`` is passed.

    Args:
        data: a pandas or polars frame (a lazy one too), an Arrow table, a mapping from names to
            columns, a SciPy sparse matrix, an array of pairs, a column of users, the path of a file
            or folder, the name of a data set, Interactions, or a Split.
        items: the column of items, where ``data`` is one of users.
        named: the columns of a table.
        min_rating: the least rating of an interaction that counts.

    Raises:
        InputError: it is none of these, or does not fit.
    """
    if isinstance(data, Split):
        _refuse(named, "a Split")
        if min_rating is not None:
            raise InputError(
                "min_rating: a Split holds no ratings; filter first, "
                "ratio_split(interactions.with_min_rating(4))"
            )
        return Given(None, data)
    names, is_pandas, lines = ("user", "item"), False, ()
    if isinstance(items, str):
        raise InputError(
            f"items: expected a column of items beside one of users, got {items!r}; columns of a "
            f"table are named, fit(df, user=…, item={items!r})"
        )
    is_prepared = False
    if items is not None:
        _refuse(named, "two columns", ("user", "item"))
        given = [data, items, named.rating, named.timestamp, named.weight]
        read, lines = _of_columns(given)
    elif isinstance(data, Interactions):
        _refuse(named, "Interactions")
        read = data
    elif isinstance(data, (str, os.PathLike)) and _is_data_set(data):
        _refuse(named, f"the data set {data}")
        # Data sets of ratings have thresholds of their own.
        read = load_dataset(str(data), apply_threshold=min_rating is None)
        is_prepared = min_rating is None
    elif isinstance(data, (str, os.PathLike)):
        read = _of_path(data, named)
    elif scipy.sparse.issparse(data):
        _refuse(named, "a sparse matrix", ("rating", "timestamp", "weight"))
        for role in ("user", "item"):
            if isinstance(getattr(named, role), str):
                raise InputError(
                    f"{role}: a sparse matrix has no column {getattr(named, role)!r}; pass the ids "
                    f"of its {'rows' if role == 'user' else 'columns'}, or leave it out"
                )
        read = Interactions.from_scipy(data, named.user, named.item)
    elif (table_names := names_of(data)) is not None:
        if hasattr(data, "reset_index"):
            data, table_names = _with_index(data, table_names)
        read, names, lines = _of_table(data, table_names, named)
        is_pandas = hasattr(data, "iloc")
    else:
        _refuse(named, "rows without names", ("user", "item", "weight"))
        read, lines = _of_columns(_columns(data))
    is_prepared |= read.parts is not None and min_rating is None
    kept = read if is_prepared else positives(read, min_rating)
    told = (_in_python(line, "=") for one in read.readings for line in one.lines)
    noted = (*read.notes, *kept.notes[len(read.notes) :])
    lines = (*lines, *told, *(_in_python(note, "= ") for note in noted))
    chosen = given_split(kept) if kept.parts is not None else kept
    return Given(read, chosen, names, is_pandas, lines)


def _in_python(line: str, behind: str) -> str:
    """A line with flags as the arguments that they are here, and what comes behind each name."""

    def named(found: re.Match[str]) -> str:
        return found[1].replace("-column", "").replace("-", "_") + behind

    return _FLAG.sub(named, line.replace(REFUSED_BY, ""))


def _refuse(named: Named, what: str, roles: Sequence[str] = Named._fields) -> None:
    for role in roles:
        if getattr(named, role) is not None:
            raise InputError(f"{role}: names a column of a table, but {what} came; leave it out")


def _is_data_set(given: Any) -> bool:
    return not Path(given).exists() and str(given) in dataset_names()


def _of_path(given: Any, named: Named) -> Interactions:
    path = Path(given)
    if not path.exists():
        near = difflib.get_close_matches(str(given), dataset_names(), 1)
        meant = f"did you mean the data set {near[0]!r}?" if near else "expected the path of a file"
        raise InputError(f"{given}: no such file or folder, and no data set of that name; {meant}")
    columns = {f"{role}_column": name for role, name in named._asdict().items()}
    return read_interactions(path, **columns)


def names_of(data: Any) -> list[Any] | None:
    """The names of a table's columns; None for what is no table.

    Args:
        data: anything.

    Raises:
        InputError: a lazy frame that cannot be computed.
    """
    if isinstance(data, pl.LazyFrame):
        try:
            return data.collect_schema().names()
        except pl.exceptions.PolarsError as error:
            reason = first_line(error)
            raise InputError(f"this lazy frame cannot be computed; polars says: {reason}") from None
    if isinstance(data, (list, tuple)) and data and isinstance(data[0], Mapping):
        return list(data[0])
    if isinstance(data, Mapping):
        return list(data)
    # Arrow calls them names of columns, whose columns are the values.
    found = getattr(data, "column_names", getattr(data, "columns", None))
    return None if found is None else list(found)


def _with_index(data: Any, names: list[Any]) -> tuple[Any, list[Any]]:
    """A frame of pandas whose index is among its columns, where it has a name of its own."""
    index = list(data.index.names)
    if None in index or {*index} & {*names}:
        return data, names
    return data.reset_index(), index + names


def _of_table(
    data: Any, names: Sequence[Any], named: Named
) -> tuple[Interactions, tuple[str, str], tuple[str, ...]]:
    """The rows of a table that name a user and an item, what these are called, and what to say."""
    if isinstance(data, (list, tuple)) or hasattr(data, "column_names"):
        data = pl.DataFrame(data)
    roles, guessed = _roles(names, named)
    if roles["timestamp"] is None:
        taken = list(roles.values())
        held = _dates(data, [name for name in names if name not in taken])
        if len(held) == 1:
            roles["timestamp"] = held[0]
            guessed.append("timestamp")
    columns = columns_of(data, roles)
    for at, (role, reader) in enumerate(_READERS.items(), start=2):
        # What nobody named and does not read as expected is no such column.
        if role in guessed:
            try:
                reader(columns[at])
            except InputError:
                columns[at] = None
                guessed.remove(role)
    said = ", ".join(f"{role}={roles[role]!r}" for role in guessed)
    read, left_out = _of_columns(columns)
    names = (str(roles["user"]), str(roles["item"]))
    return read, names, ((f"columns: {said}",) if said else ()) + left_out


def _of_columns(columns: list[Any]) -> tuple[Interactions, tuple[str, ...]]:
    """The rows of columns (user, item, perhaps rating, time and weight) that name a user and an
    item, and how many do not."""
    columns, missing = _without_missing(columns)
    weights = columns.pop() if len(columns) == len(Named._fields) else None
    read = Interactions.from_arrays(*columns, weights=weights)
    said = f"{missing:,} rows without a user or an item are left out"
    return read, ((said,) if missing else ())


def _dates(data: Any, names: Sequence[Any]) -> list[Any]:
    """The columns of a frame that hold dates, by their first values."""
    head = data.head(_HEAD) if hasattr(data, "head") else data
    if isinstance(head, pl.LazyFrame):
        head = head.collect()
    cells = {name: list(head[name])[:_HEAD] for name in names}
    return dated({name: [None if one != one else one for one in cells[name]] for name in names})


def _roles(names: Sequence[Any], named: Named) -> tuple[dict[str, Any], list[str]]:
    """The column of each role, and the roles that nobody named a column for."""
    roles, guessed = named._asdict(), []
    texts = [str(name) for name in names]
    for role in COLUMN_NAMES:
        # A column of ratings may be that of the weights too.
        taken = [name for other, name in roles.items() if other != "weight"]
        free = [at for at, name in enumerate(names) if name not in taken]
        if roles[role] is None:
            at = usual_column(role, [texts[at] for at in free])
            if at is not None:
                roles[role] = names[free[at]]
                guessed.append(role)
    missing = [role for role in ("user", "item") if roles[role] is None]
    left = [name for name in names if name not in roles.values()]
    # Two columns can be meant in one way only, whatever they are called.
    if missing and len(names) == 2:
        for role, name in zip(missing, left, strict=False):
            roles[role] = name
            guessed.append(role)
        missing = missing[len(left) :]
    if missing:
        role, listed = missing[0], ", ".join(map(repr, names[:20])) or "none"
        raise InputError(
            f"{role}: which column holds the {role}s? name it, "
            f"fit(…, {role}={(left or ['…'])[0]!r}); the columns are {listed}"
        )
    return roles, guessed


def _without_missing(columns: list[Any]) -> tuple[list[Any], int]:
    """Columns without the rows in which the user or the item is missing, and how many those are."""
    absent = [_is_missing(column) for column in columns[:2]]
    if len(absent[0]) != len(absent[1]) or not np.any(absent):
        return columns, 0
    either = absent[0] | absent[1]
    kept = np.flatnonzero(~either)
    return [None if one is None else _taken(one, kept) for one in columns], int(either.sum())


def _is_missing(column: Any) -> np.ndarray:
    """Which ids of a column are missing or blank."""
    if isinstance(column, pl.Series):
        blank = column.str.strip_chars() == "" if column.dtype == pl.String else column.is_null()
        return (column.is_null() | blank).to_numpy()
    kind = getattr(getattr(column, "dtype", None), "kind", "O")
    if hasattr(column, "isna"):
        missing = np.asarray(column.isna(), bool)
    elif kind in "OUS":
        missing = np.array([one is None or one != one for one in column], bool)
    else:
        missing = np.isnan(column) if kind == "f" else np.zeros(len(column), bool)
    if kind not in "OUS":
        return missing
    return missing | np.array([isinstance(one, str) and not one.strip() for one in column], bool)


def _taken(column: Any, rows: np.ndarray) -> Any:
    if len(column) <= (rows.max() if len(rows) else -1):
        return column  # Of another length, which is refused where columns are put together.
    if isinstance(column, list):
        return [column[row] for row in rows]
    if isinstance(column, pl.Series):
        return column.gather(rows)
    values = column.iloc[rows] if hasattr(column, "iloc") else column[rows]
    # Whole numbers beside a missing one are floats to pandas and NumPy.
    if getattr(values.dtype, "kind", "") == "f" and (values == np.floor(values)).all():
        return values.astype(np.int64)
    return values


def _columns(data: Any) -> list[Any]:
    """The columns of rows without names: user, item, perhaps rating and time."""
    if isinstance(data, np.ndarray) and data.ndim == 2 and 2 <= data.shape[1] <= 4:
        return [data[:, at] for at in range(data.shape[1])]
    if isinstance(data, np.ndarray):
        raise InputError(
            f"expected an array of pairs, [E, 2], got shape {list(data.shape)}; columns are passed "
            "as fit(users, items), a matrix of users by items as fit(scipy.sparse.coo_array(it))"
        )
    if isinstance(data, tuple) and 2 <= len(data) <= 4 and all(map(_is_column, data)):
        return list(data)
    if isinstance(data, Iterable):
        rows = list(data)
        width = len(rows[0]) if rows and isinstance(rows[0], (tuple, list, np.ndarray)) else 0
        same = all(isinstance(row, (tuple, list, np.ndarray)) and len(row) == width for row in rows)
        if 2 <= width <= 4 and same:
            return [list(column) for column in zip(*rows, strict=True)]
    raise InputError(
        f"expected a frame (pandas, polars, Arrow), a scipy.sparse matrix, arrays (users, items), "
        f"a path, Interactions or a Split, got {type(data).__name__}"
    )


def _is_column(value: Any) -> bool:
    return isinstance(value, (np.ndarray, pl.Series, list)) or hasattr(value, "iloc")
