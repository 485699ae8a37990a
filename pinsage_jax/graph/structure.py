"""Structure: where an item stands in the graph, in a few numbers that need no training.

Features tell nothing of what only the contexts know. With A the item–context counts, d their sums
by row and e by column, random signatures of the items are diffused by Ã = D^-½ A E^-½ and its
transpose a few times and made orthogonal in between, until they span the leading singular vectors
of Ã (:func:`lightgcn_jax.diffusion.spectral.truncated_svd`). With V those of the contexts and Σ the
singular values, an item's structure is

    s_u = log(1 + d_u) · t_u / ‖t_u‖ · √r / 2,   t_u = Σ_{c ∋ u} V_c Σ / √e_c.

t_u is D_u^½ U_u Σ² of the item's own singular vectors U, so its direction tells what contexts it
has; one context more or less turns it the less, the more there are. A length of log(1 + d) keeps
the noisy directions of items in few contexts from the first ranks and lets the inner product tell
popular items from others; of the lengths that were tried on validation parts it ranked best.

A new item has its structure from its contexts alone, by the same formula.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from jax.sharding import Mesh

from lightgcn_jax.arrays import PRNGKey
from lightgcn_jax.diffusion.operator import operator_of
from lightgcn_jax.diffusion.spectral import starting_block, truncated_svd
from lightgcn_jax.processes.placing import on_host
from lightgcn_jax.sharding import Blocks
from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.pagerank import csr_matrix, edge_counts

# On validation 64 vectors were better than 128 with 600 and with 1,000 contexts, 128 with 4,000.
_CONTEXTS_A_VECTOR, _FEWEST_VECTORS = 16, 16


class Structure(NamedTuple):
    """What the structure of items is made of.

    Attributes:
        contexts: ``float32[C, r]``, V_c Σ / √e_c; columns of zeros beyond those that were found.
    """

    contexts: np.ndarray

    @classmethod
    def of(cls, key: PRNGKey, graph: ItemGraph, rank: int, mesh: Mesh | None = None) -> Structure:
        """Diffuse signatures over a graph.

        Args:
            key: draws the signatures.
            graph: the graph.
            rank: r. No more singular vectors are taken than a sixteenth of the contexts, or 16:
                more would tell single contexts rather than groups of them.
            mesh: devices to share Ã's rows out over; None for one. The signatures are the same, so
                the structure is too but for the order of sums, by which vectors of close singular
                values turn.
        """
        counts = edge_counts(graph.contexts_of_item, graph.num_contexts)
        of_items, of_contexts = (
            1 / np.sqrt(np.maximum(counts.sum(axis=axis), 1)) for axis in (1, 0)
        )
        counts.data *= np.repeat(of_items, np.diff(counts.indptr)) * of_contexts[counts.indices]
        most = max(_FEWEST_VECTORS, graph.num_contexts // _CONTEXTS_A_VECTOR)
        found = min(rank, most, graph.num_items, graph.num_contexts)
        if not found:
            return cls(np.zeros((graph.num_contexts, rank), np.float32))
        matrix = csr_matrix(counts)
        if mesh is None:
            svd = truncated_svd(operator_of(matrix), key, rank=found)
            right = np.asarray(svd.right)
        else:
            blocks: Any = Blocks(mesh)
            start = blocks.put(np.asarray(starting_block(key, matrix.shape, found)))
            svd = truncated_svd(operator_of(matrix, backend=blocks), key, rank=found, start=start)
            right = blocks.take(svd.right, graph.num_contexts)
        contexts = right * on_host(svd.values) * of_contexts[:, None]
        return cls(np.pad(contexts.astype(np.float32), ((0, 0), (0, rank - found))))

    def grown(self, before: ItemGraph, after: ItemGraph) -> Structure:
        """The structure of a graph that has grown, in the same singular directions.

        V_c Σ / √e_c = Σ_{u ∈ c} (t_u / d_u) Σ⁻² / e_c holds of every context of the graph before.
        By it a context that is new, or has new members, is placed by those of its items that were
        there before; the others stay.

        Args:
            before: the graph that this is of.
            after: the graph now; known items and contexts have their rows of before.
        """
        old = edge_counts(before.contexts_of_item, before.num_contexts)
        now = edge_counts(after.contexts_of_item, after.num_contexts)
        sizes = np.asarray(old.sum(axis=0), np.float64).ravel()
        squares = (sizes[:, None] * np.square(self.contexts, dtype=np.float64)).sum(axis=0)
        degrees = np.maximum(np.asarray(old.sum(axis=1)).ravel(), 1)
        shares = (old @ self.contexts) / degrees[:, None] / np.where(squares > 0, squares, 1)
        known = now[: before.num_items]
        now_sizes = np.asarray(known.sum(axis=0), np.float64).ravel()
        placed = (known.T @ shares) / np.maximum(now_sizes, 1)[:, None]
        contexts = np.zeros((after.num_contexts, self.contexts.shape[1]), np.float32)
        contexts[: before.num_contexts] = self.contexts
        moved = now_sizes.copy()
        moved[: before.num_contexts] -= sizes
        contexts[moved != 0] = placed[moved != 0]
        return Structure(contexts)

    def items(self, graph: ItemGraph) -> np.ndarray:
        """Compute s of all items of a graph.

        Args:
            graph: its contexts are those of this structure.

        Returns:
            ``float32[R, r]``; zeros for an item without contexts.
        """
        counts = edge_counts(graph.contexts_of_item, graph.num_contexts)
        return self._sums(counts, graph.item_degrees())

    def new_items(self, contexts: list[np.ndarray], degrees: np.ndarray) -> np.ndarray:
        """Compute s of items that the graph does not have.

        Args:
            contexts: for each of n items the rows of its contexts.
            degrees: ``int[n]``, d of each item.

        Returns:
            ``float32[n, r]``.
        """
        lengths = [len(one) for one in contexts]
        columns = np.concatenate([np.zeros(0, np.int64), *contexts])
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        shape = len(contexts), len(self.contexts)
        counts = scipy.sparse.csr_array((np.ones(len(columns)), columns, offsets), shape=shape)
        return self._sums(counts, degrees)

    def _sums(self, counts: scipy.sparse.csr_array, degrees: np.ndarray) -> np.ndarray:
        sums = counts @ self.contexts
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        scale = np.log1p(degrees)[:, None] * np.sqrt(self.contexts.shape[1]) / 2
        return (sums / np.where(lengths > 0, lengths, 1) * scale).astype(np.float32)
