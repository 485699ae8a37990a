"""A user as the mean of what they took: cosine ranking by the items' own vectors."""

from __future__ import annotations

import flax.struct
import jax
import numpy as np
import scipy.sparse

from lightgcn_jax.arrays import Array, Float, Ids, ItemTable, UserTable
from lightgcn_jax.diffusion.storage import exact_product
from lightgcn_jax.graph.bipartite import CsrRows


@flax.struct.dataclass
class MeanOfItems:
    """Scores an item by its cosine to the mean of a user's items, all of length 1.

    Attributes:
        means: ``float32[U, D]``, of length 1; zeros for a user without items.
        vectors: ``float32[I, D]``, of length 1; zeros for an item that has none.
    """

    means: UserTable
    vectors: ItemTable

    @classmethod
    def of(cls, vectors: np.ndarray, histories: CsrRows) -> MeanOfItems:
        """Take the means of users' items.

        Args:
            vectors: ``float[I, D]``, of any lengths.
            histories: the items of each user.
        """
        unit = _unit(np.asarray(vectors, np.float32))
        return cls(jax.device_put(_unit(_sums(unit, histories))), jax.device_put(unit))

    @property
    def num_queries(self) -> int:
        """U."""
        return self.means.shape[0]

    @property
    def num_items(self) -> int:
        """I."""
        return self.vectors.shape[0]

    @property
    def block_bytes_per_query(self) -> int:
        """The query's vector."""
        return 4 * self.means.shape[1]

    def embeddings(self) -> tuple[UserTable, ItemTable]:
        """``float32[U, D]`` and ``float32[I, D]``."""
        return self.means, self.vectors

    def scores(self, rows: Ids) -> Float[Array, "items queries"]:
        """Scores of all items for some users.

        Args:
            rows: ``int32[Q]``, users.
        """
        return exact_product(self.vectors, self.means[rows].T)

    def pair_scores(self, rows: Ids, items: Ids) -> Float[Array, " pairs"]:
        """Scores of single pairs.

        Args:
            rows: ``int32[P]``, users.
            items: ``int32[P]``.
        """
        return (self.means[rows] * self.vectors[items]).sum(axis=1)

    def of_histories(
        self, histories: CsrRows, whole: CsrRows | None = None, is_trained: bool = False
    ) -> MeanOfItems:
        """The same for people who were never seen.

        Args:
            histories: a row of items for each.
            whole: a row for each, all that they have: its sum then gives the length.
            is_trained: not used; nobody is trained.
        """
        del is_trained
        vectors = np.asarray(self.vectors)
        sums = _sums(vectors, histories)
        lengths = _lengths(sums if whole is None else _sums(vectors, whole))
        return MeanOfItems(jax.device_put(sums / lengths), self.vectors)


def _sums(vectors: np.ndarray, histories: CsrRows) -> np.ndarray:
    offsets = np.asarray(histories.offsets)
    columns = np.asarray(histories.columns)[: offsets[-1]]
    shape = histories.num_rows, len(vectors)
    taken = scipy.sparse.csr_array((np.ones(len(columns), np.float32), columns, offsets), shape)
    return taken @ vectors


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / _lengths(vectors)


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """1 in the place of 0."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(lengths > 0, lengths, 1)
