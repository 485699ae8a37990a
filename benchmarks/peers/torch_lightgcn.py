"""LightGCN in PyTorch, written as LightGCN-PyTorch writes it: the peer of the benchmarks.

It makes the same operations in the same order, in our own words. Ã is a coalesced COO tensor that
``torch.sparse.mm`` multiplies, the layers are stacked and averaged, gradients come from autograd,
BPR is a softplus, L2 is taken on the layer-0 embeddings of the batch, and ``torch.optim.Adam``
moves the parameters. Its evaluation diffuses anew for every
batch of users, passes scores through a sigmoid, masks seen items through Python lists, and counts
hits by Python membership. The graph is normalised here with SciPy, not with our own code. Other
models differ from it only in how they propagate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from numpy.typing import ArrayLike
from torch import nn

from benchmarks.peers.torch_sparse import Symmetric, csr_from_coo
from lightgcn_jax.graph import BipartiteGraph, CsrRows
from lightgcn_jax.training.batch import Batch

_SEEN_RATING = -1024.0


class PeerMetrics(NamedTuple):
    """Means over the users with relevant items.

    Attributes:
        recall: found items over relevant ones.
        precision: found items over the cut-off.
        ndcg: with logarithmic discounts, over that of the best ranking.
    """

    recall: float
    precision: float
    ndcg: float


class Rows(NamedTuple):
    """What the peer's evaluation reads.

    Attributes:
        seen: ``csr_array[U, I]`` of training pairs, of which it cuts rows batch by batch.
        relevant: user -> list of test items, for users that have any.
    """

    seen: scipy.sparse.csr_array
    relevant: dict[int, list[int]]


class TwoTables(nn.Module):
    """Layer-0 embeddings in two tables, Ã, and a batch's loss; a subclass says how they spread.

    Args:
        graph: the training pairs.
        table: ``float[N, D]`` initial layer-0 embeddings, users first; its type is the model's.
    """

    def __init__(self, graph: BipartiteGraph, table: np.ndarray):
        super().__init__()
        self.num_users, self.num_items = graph.num_users, graph.num_items
        users, items = torch.from_numpy(np.array(table)).split([self.num_users, self.num_items])
        self.user_table = nn.Embedding.from_pretrained(users.clone(), freeze=False)
        self.item_table = nn.Embedding.from_pretrained(items.clone(), freeze=False)
        self.adjacency = _coo_adjacency(graph, users.dtype)

    def propagate(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Final embeddings of users ``[U, D']`` and items ``[I, D']``."""
        raise NotImplementedError

    def loss(
        self, users: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of a batch in its two parts.

        Args:
            users: ``int64[B]`` rows.
            positives: ``int64[B]`` rows of items.
            negatives: ``int64[B]`` rows of items.

        Returns:
            BPR, a mean over the batch, and ½ Σ‖·‖² / B of the batch's layer-0 embeddings.
        """
        user_vectors, item_vectors = self.propagate()
        user, positive, negative = (
            user_vectors[users],
            item_vectors[positives],
            item_vectors[negatives],
        )
        own = (self.user_table(users), self.item_table(positives), self.item_table(negatives))
        squares = sum((rows.norm(2).pow(2) for rows in own), torch.zeros((), dtype=user.dtype))
        positive_scores = torch.mul(user, positive).sum(dim=1)
        negative_scores = torch.mul(user, negative).sum(dim=1)
        ranking = nn.functional.softplus(negative_scores - positive_scores).mean()
        return ranking, 0.5 * squares / float(len(users))

    def rating(self, users: torch.Tensor) -> torch.Tensor:
        """Score all items; it diffuses anew, as the original does.

        Args:
            users: ``int64[B]`` rows.

        Returns:
            σ(scores), ``float[B, I]``.
        """
        user_vectors, item_vectors = self.propagate()
        return torch.sigmoid(torch.matmul(user_vectors[users], item_vectors.t()))

    def table(self) -> np.ndarray:
        """The layer-0 embeddings ``float[N, D]``, users first."""
        with torch.no_grad():
            return torch.cat([self.user_table.weight, self.item_table.weight]).numpy()


class TorchLightGCN(TwoTables):
    """LightGCN.

    Args:
        graph: the training pairs.
        table: ``float[N, D]`` initial layer-0 embeddings, users first.
        layers: K.
    """

    def __init__(self, graph: BipartiteGraph, table: np.ndarray, layers: int):
        super().__init__(graph, table)
        self.layers = layers

    def diffuse(self, x: torch.Tensor) -> torch.Tensor:
        """Apply Ã.

        Args:
            x: ``float[N, D]``.

        Returns:
            Ã x, ``float[N, D]``.
        """
        return torch.sparse.mm(self.adjacency, x)

    def propagate(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Final embeddings of users ``[U, D]`` and items ``[I, D]``."""
        power = torch.cat([self.user_table.weight, self.item_table.weight])
        powers = [power]
        for _ in range(self.layers):
            power = self.diffuse(power)
            powers.append(power)
        final = torch.stack(powers, dim=1).mean(dim=1)
        users, items = torch.split(final, [self.num_users, self.num_items])
        return users, items


class SymmetricLightGCN(TorchLightGCN):
    """The same with Ã as CSR and a derivative that knows Ã to be symmetric: PyTorch's best.

    Args:
        graph: the training pairs.
        table: ``float[N, D]`` initial layer-0 embeddings, users first.
        layers: K.
    """

    def __init__(self, graph: BipartiteGraph, table: np.ndarray, layers: int):
        super().__init__(graph, table, layers)
        self.adjacency = csr_from_coo(self.adjacency)

    def diffuse(self, x: torch.Tensor) -> torch.Tensor:
        """Apply Ã.

        Args:
            x: ``float[N, D]``.

        Returns:
            Ã x, ``float[N, D]``.
        """
        return Symmetric.apply(self.adjacency, x)  # pyright: ignore[reportReturnType]


class Trainer:
    """Adam on a model; one :meth:`step` a batch.

    Args:
        model: its parameters are changed in place.
        learning_rate: Adam's rate.
        l2: λ, the weight of the second part of the loss.
    """

    def __init__(self, model: TwoTables, learning_rate: float, l2: float):
        self.model, self.l2 = model, l2
        self.optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)

    def step(self, users: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor) -> float:
        """Take one step on a batch.

        Args:
            users: ``int64[B]`` rows.
            positives: ``int64[B]`` rows of items.
            negatives: ``int64[B]`` rows of items.

        Returns:
            The total loss before the step.
        """
        ranking, penalty = self.model.loss(users, positives, negatives)
        total = ranking + self.l2 * penalty
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        return total.item()


def batch_rows(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hand one of our batches to PyTorch.

    Args:
        batch: with one negative for each row.

    Returns:
        Users, positives and negatives, ``int64[B]`` each.
    """
    users, positives, negatives = (
        torch.from_numpy(np.asarray(ids).astype(np.int64).ravel())
        for ids in (batch.users, batch.positives, batch.negatives)
    )
    return users, positives, negatives


def fixed_rating(
    user_vectors: ArrayLike, item_vectors: ArrayLike
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The rating of embeddings that are diffused already, for :func:`evaluate`.

    Args:
        user_vectors: ``float[U, D]``.
        item_vectors: ``float[I, D]``.

    Returns:
        A function from ``int64[B]`` rows of users to σ(scores), ``float[B, I]``.
    """
    users, items = (torch.from_numpy(np.array(rows)) for rows in (user_vectors, item_vectors))
    return lambda wanted: torch.sigmoid(torch.matmul(users[wanted], items.t()))


def peer_rows(seen: CsrRows, relevant: CsrRows, num_items: int) -> Rows:
    """Seen and relevant items in the form in which the peer holds them.

    Args:
        seen: row u holds user u's training items.
        relevant: row u holds user u's test items.
        num_items: I.

    Returns:
        What :func:`evaluate` reads.
    """
    offsets, columns = np.asarray(seen.offsets), np.asarray(seen.columns)
    matrix = scipy.sparse.csr_array(
        (np.ones(len(columns)), columns, offsets), shape=(seen.num_rows, num_items)
    )
    lists = np.split(np.asarray(relevant.columns), np.asarray(relevant.offsets)[1:-1])
    return Rows(matrix, {user: row.tolist() for user, row in enumerate(lists) if row.size})


def evaluate(
    rating: Callable[[torch.Tensor], torch.Tensor], rows: Rows, *, k: int, batch_size: int
) -> PeerMetrics:
    """Rank all items for the users with relevant ones, batch by batch, and average.

    Args:
        rating: ``int64[B] -> float[B, I]``, for instance :meth:`TwoTables.rating`.
        rows: from :func:`peer_rows`.
        k: cut-off.
        batch_size: how many users are ranked at a time.

    Returns:
        Means over the users with relevant items.
    """
    users = list(rows.relevant)
    ranked = []
    with torch.no_grad():
        for batch in _batches(users, batch_size):
            seen = [rows.seen[user : user + 1].nonzero()[1] for user in batch]
            ratings = rating(torch.tensor(batch))
            places, items = [], []
            for place, row in enumerate(seen):
                places.extend([place] * len(row))
                items.extend(row)
            ratings[places, items] = _SEEN_RATING
            ranked.append(torch.topk(ratings, k=k).indices.numpy())
    sums = np.zeros(3)
    for batch, best in zip(_batches(users, batch_size), ranked, strict=True):
        relevant = [rows.relevant[user] for user in batch]
        sums += _sums_of_batch(_hits(relevant, best), relevant, k)
    recall, precision, ndcg = sums / len(users)
    return PeerMetrics(float(recall), float(precision), float(ndcg))


def _coo_adjacency(graph: BipartiteGraph, dtype: torch.dtype) -> torch.Tensor:
    users, items = graph.pairs()
    interactions = scipy.sparse.coo_array(
        (np.ones(len(users)), (users, items)), shape=(graph.num_users, graph.num_items)
    )
    adjacency = scipy.sparse.block_array([[None, interactions], [interactions.T, None]]).tocsr()
    degrees = np.asarray(adjacency.sum(axis=1))
    roots = np.zeros(len(degrees))
    np.power(degrees, -0.5, out=roots, where=degrees > 0)
    inverse_roots = scipy.sparse.diags_array(roots)
    normalized = (inverse_roots @ adjacency @ inverse_roots).tocoo()
    return torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([normalized.row, normalized.col]).astype(np.int64)),
        torch.from_numpy(normalized.data).to(dtype),
        normalized.shape,
        check_invariants=True,
    ).coalesce()


def _batches(users: list[int], size: int) -> Iterator[list[int]]:
    return (users[start : start + size] for start in range(0, len(users), size))


def _hits(relevant: list[list[int]], best: np.ndarray) -> np.ndarray:
    """``float[B, K]``, 1 where a ranked item is relevant, by membership in Python."""
    return np.array(
        [
            [float(item in wanted) for item in row]
            for wanted, row in zip(relevant, best, strict=True)
        ]
    )


def _sums_of_batch(hits: np.ndarray, relevant: list[list[int]], k: int) -> np.ndarray:
    """Sums over a batch's users of recall, precision and NDCG at k: ``float[3]``."""
    found = hits.sum(axis=1)
    sizes = np.array([len(items) for items in relevant])
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    best_hits = np.zeros_like(hits)
    for place, items in enumerate(relevant):
        best_hits[place, : min(k, len(items))] = 1.0
    ndcg = (hits * discounts).sum(axis=1) / (best_hits * discounts).sum(axis=1)
    return np.array([(found / sizes).sum(), found.sum() / k, ndcg.sum()])
