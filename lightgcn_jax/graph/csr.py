"""A sparse matrix on the host: what every storage of the diffusion operator is made from."""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.sparse

from lightgcn_jax.errors import InputError

_INT32_MAX = np.iinfo(np.int32).max


@dataclasses.dataclass(frozen=True, eq=False)
class CsrMatrix:
    """A matrix of R rows in compressed sparse rows; row r holds entries offsets[r] to offsets[r+1].

    The device will not check ids again, so they are checked here.

    Attributes:
        offsets: ``int32[R + 1]``, non-decreasing, from 0 to the number of entries.
        columns: ``int32[entries]`` in [0, num_columns), strictly increasing within a row: an entry
            that stands twice is refused, not added up.
        weights: ``float64[entries]``, finite.
        num_columns: C.

    Raises:
        InputError: an array has another shape or kind, or values break the rules above.
    """

    offsets: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    num_columns: int

    def __post_init__(self):
        self._check_shapes()
        self._check_offsets()
        self._check_columns()
        if not np.isfinite(self.weights).all():
            odd = int(np.argmin(np.isfinite(self.weights)))
            raise InputError(
                f"weights: expected finite numbers, got {self.weights[odd]} at entry {odd}"
            )
        for field, kind in (("offsets", np.int32), ("columns", np.int32), ("weights", np.float64)):
            object.__setattr__(self, field, getattr(self, field).astype(kind, copy=False))

    def _check_shapes(self) -> None:
        kinds = {"offsets": "integer", "columns": "integer", "weights": "floating-point"}
        for field, kind in kinds.items():
            array = getattr(self, field)
            is_vector = isinstance(array, np.ndarray) and array.ndim == 1
            if not is_vector or array.dtype.kind not in ("iu" if kind == "integer" else "f"):
                raise InputError(
                    f"{field}: expected a one-dimensional NumPy array of {kind} type, "
                    f"got {getattr(array, 'dtype', type(array).__name__)}"
                    f"{list(getattr(array, 'shape', ()))}"
                )
        if len(self.columns) != len(self.weights):
            raise InputError(
                f"columns and weights: expected equal lengths, got {len(self.columns)} and "
                f"{len(self.weights)}"
            )
        if not isinstance(self.num_columns, (int, np.integer)) or self.num_columns < 0:
            raise InputError(f"num_columns: expected an integer ≥ 0, got {self.num_columns!r}")
        if max(len(self.columns), self.num_columns, len(self.offsets)) >= _INT32_MAX:
            raise InputError(
                f"matrix: rows, columns and entries are counted in 32 bits, got "
                f"{len(self.offsets) - 1:,}, {self.num_columns:,} and {len(self.columns):,}"
            )

    def _check_offsets(self) -> None:
        offsets, entries = self.offsets, len(self.columns)
        if not len(offsets) or offsets[0] != 0 or offsets[-1] != entries:
            ends = "none" if not len(offsets) else f"{offsets[0]} and {offsets[-1]}"
            raise InputError(f"offsets: expected to run from 0 to {entries} entries, got {ends}")
        falling = np.flatnonzero(offsets[1:] < offsets[:-1])
        if falling.size:
            row = int(falling[0])
            raise InputError(
                f"offsets: expected non-decreasing values, got {offsets[row]} before "
                f"{offsets[row + 1]} at row {row}"
            )

    def _check_columns(self) -> None:
        columns = self.columns
        if columns.size and not (columns.min() >= 0 and columns.max() < self.num_columns):
            raise InputError(
                f"columns: expected ids in [0, {self.num_columns}), "
                f"got values from {columns.min()} to {columns.max()}"
            )
        # A step that does not rise is allowed only from one row to the next.
        flat = columns[1:] <= columns[:-1]
        starts = self.offsets[1:-1]
        flat[starts[(starts > 0) & (starts < len(columns))] - 1] = False
        if flat.any():
            entry = int(np.argmax(flat)) + 1
            row = int(np.searchsorted(self.offsets, entry, side="right")) - 1
            raise InputError(
                f"columns: expected strictly increasing ids within a row, got {columns[entry - 1]} "
                f"before {columns[entry]} in row {row}; sort the rows and add duplicates up first"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """R and C."""
        return len(self.offsets) - 1, self.num_columns

    @property
    def num_entries(self) -> int:
        """Stored entries, zeros among the weights included."""
        return len(self.columns)

    @property
    def lengths(self) -> np.ndarray:
        """Entries of each row, ``int32[R]``."""
        return np.diff(self.offsets)

    def as_scipy(self) -> scipy.sparse.csr_array:
        """The same arrays as a SciPy matrix."""
        return scipy.sparse.csr_array((self.weights, self.columns, self.offsets), shape=self.shape)

    def transposed(self) -> CsrMatrix:
        """The C×R matrix; O(entries) by a counting sort."""
        columnwise = self.as_scipy().tocsc()
        return CsrMatrix(columnwise.indptr, columnwise.indices, columnwise.data, self.shape[0])
