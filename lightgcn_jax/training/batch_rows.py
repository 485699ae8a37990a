"""The rows of tables that a batch reads, apart from all others: what lazy Adam updates."""

from __future__ import annotations

from typing import Any, TypeVar

import flax.struct
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Ids, Vectors
from lightgcn_jax.models.model import map_tables

_Tree = TypeVar("_Tree")


@flax.struct.dataclass
class BatchRows:
    """The distinct rows of tables that a batch reads.

    Attributes:
        numbers: ``int32[Q]``, ascending and distinct. Q is the number of rows read; for each that
            was read before, a number past the last row stands in, whose row is zeros and is never
            written.
    """

    numbers: Ids

    @classmethod
    def of(cls, read: Ids, num_rows: int) -> BatchRows:
        """The distinct ones among the rows that are read.

        Args:
            read: ``int32[Q]``, some perhaps twice.
            num_rows: of the tables.
        """
        ascending = jnp.sort(read)
        again = jnp.concatenate([jnp.zeros(1, bool), ascending[1:] == ascending[:-1]])
        past = num_rows + jnp.arange(len(read), dtype=jnp.int32)
        return cls(jnp.sort(jnp.where(again, past, ascending)))

    def taken(self, tree: _Tree) -> _Tree:
        """A tree with these rows in the place of its tables.

        Args:
            tree: with tables ``[N, D]``, known by their name.
        """
        return map_tables(
            lambda table: table.at[self.numbers].get(
                mode="fill", fill_value=0, indices_are_sorted=True, unique_indices=True
            ),
            tree,
        )

    def written(self, tree: _Tree, rows: _Tree) -> _Tree:
        """What :meth:`taken` gave as it is now, with its rows back in their tables.

        Args:
            tree: with tables ``[N, D]``; these are written in place where they are given up.
            rows: the same with tables ``[Q, D]``.
        """
        return map_tables(
            lambda own, table: table.at[self.numbers].set(
                own, mode="drop", indices_are_sorted=True, unique_indices=True
            ),
            rows,
            tree,
        )

    def as_tables(self, rows: _Tree) -> _Tree:
        """These rows, to be read as one reads whole tables: ``table[numbers]``.

        Args:
            rows: with tables ``[Q, D]`` from :meth:`taken`.
        """
        return map_tables(lambda own: _RowsAsTable(self.numbers, own), rows)


@flax.struct.dataclass
class _RowsAsTable:
    numbers: Ids
    rows: Vectors

    def __getitem__(self, wanted: Any) -> Array:
        return self.rows[jnp.searchsorted(self.numbers, wanted)]
