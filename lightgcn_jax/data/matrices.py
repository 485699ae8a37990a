"""Sparse matrices of SciPy -> the entries that are interactions, and the ids of both axes."""

from typing import Any, NamedTuple

import numpy as np
import polars as pl
import scipy.sparse

from lightgcn_jax.data.columns import ids_of, numbers_of
from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.errors import InputError


class Entries(NamedTuple):
    """The entries of a matrix, one a cell.

    Attributes:
        rows: int32[E].
        columns: int32[E].
        values: float32[E]; None of a matrix of booleans.
        shape: How many rows and columns there are.
    """

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray | None
    shape: tuple[int, int]


def entries_of(matrix: Any) -> Entries:
    """The entries of a sparse matrix; those of one cell add up, as SciPy has it.

    Args:
        matrix: Of any of SciPy's formats.

    Raises:
        InputError: It is no sparse matrix of numbers, or holds zeros.
    """
    if not scipy.sparse.issparse(matrix) or len(matrix.shape) != 2:
        shape = getattr(matrix, "shape", None)
        raise InputError(
            f"expected a sparse matrix of SciPy, got {type(matrix).__name__}"
            f"{'' if shape is None else f' of shape {shape}'}; scipy.sparse.coo_array makes one of "
            "a dense matrix"
        )
    entries = scipy.sparse.coo_array(matrix)
    if not entries.has_canonical_format:
        entries = entries.copy()
        entries.sum_duplicates()
    is_zero = entries.data == 0
    if is_zero.any():
        at = int(is_zero.argmax())
        raise InputError(
            f"matrix[{entries.row[at]}, {entries.col[at]}]: {int(is_zero.sum()):,} of "
            f"{entries.nnz:,} entries are zeros, which can be read in two ways: as no interaction "
            "(then call matrix.eliminate_zeros() first), or as an interaction rated 0 (then pass "
            "rows, columns and values to Interactions.from_arrays)"
        )
    is_boolean = entries.dtype == bool
    values = None if is_boolean else numbers_of(entries.data, "ratings", np.float32)
    rows, columns = entries.row.astype(np.int32), entries.col.astype(np.int32)
    num_rows, num_columns = matrix.shape
    return Entries(rows, columns, values, (num_rows, num_columns))


def ids_of_axis(values: Any, name: str, size: int) -> IdMap:
    """The ids of a matrix's rows or columns, in their order.

    Args:
        values: External ids, each once; None for 0, 1, 2 …
        name: What an error calls them.
        size: How many there are.

    Raises:
        InputError: Another number of ids, or one that stands twice.
    """
    if values is None:
        return IdMap(pl.int_range(size, eager=True).rename("id"))
    ids = ids_of(values, name).rename("id")
    if len(ids) != size:
        raise InputError(f"{name}: expected {size} ids as the matrix's shape says, got {len(ids)}")
    return IdMap(ids)
