"""What is planned: the sizes of a graph and of a step, and the arrays that a run would make of it.

A plan has no graph. Where the arrays' sizes depend on one, it assumes that every pair of a user and
an item is as likely as any other: then the shards read the most distinct rows of each other that a
graph with as many edges can make them read on average, so a real graph, whose items differ in
popularity, needs less room for the rows that travel.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.diffusion.operator import Operator
from lightgcn_jax.errors import InputError
from lightgcn_jax.fields import Checked, one_of, setting, whole
from lightgcn_jax.graph.bipartite import BipartiteGraph, CsrRows, check_counts
from lightgcn_jax.models.lightgcn import LightGCN
from lightgcn_jax.sharding import Layout, Sharded, ShardSizes
from lightgcn_jax.training.epoch import EpochPlan
from lightgcn_jax.training.optimizer import Optimization, Sampling
from lightgcn_jax.training.samplers import SharedNegatives
from lightgcn_jax.training.strategies import StepInputs, Strategies

# Consecutive rows may give a shard up to a tenth more than its share; see sharding.balance.
_UNEVEN = 1.1
# The fullest of S² pairs of shards is that many standard deviations above the mean.
_SPREAD = 6
# The longest row, over the mean one: it bounds how often a binary search halves, and no array.
_LONGEST = 1000
# Training refuses negatives that may have more users together.
_MOST = 2**31 - 2**15


@dataclasses.dataclass(frozen=True)
class Workload(Checked):
    """A run of LightGCN, in sizes.

    Attributes:
        users: U.
        items: I.
        edges: E, training interactions.
        dim: dimensions D of an embedding.
        layers: applications K of Ã.
        batch_size: rows B of a mini-batch.
        negatives: items M that a batch shares.
        sampling: ``interactions`` or ``users``, as training draws positives.

    Raises:
        InputError: a number is not whole or too small, 32-bit ids cannot count the graph, or there
            are more edges than pairs of a user and an item.
    """

    users: int = setting(1, whole(1))
    items: int = setting(1, whole(1))
    edges: int = setting(1, whole(1))
    dim: int = setting(64, whole(1))
    layers: int = setting(3, whole(1))
    batch_size: int = setting(2048, whole(1))
    negatives: int = setting(256, whole(1))
    sampling: Sampling = setting("interactions", one_of(Sampling))

    def __post_init__(self):
        super().__post_init__()
        check_counts(self.nodes, self.edges)
        if self.edges > self.users * self.items:
            raise InputError(
                f"edges: expected at most one for each of the {self.users * self.items:,} pairs of "
                f"a user and an item, got {self.edges:,}"
            )

    @property
    def nodes(self) -> int:
        """N = U + I."""
        return self.users + self.items

    @property
    def steps(self) -> int:
        """Of an epoch, ⌈E / B⌉."""
        return -(-self.edges // self.batch_size)

    @cached_property
    def strategies(self) -> Strategies:
        """What the steps are made of."""
        return Strategies(
            LightGCN(dim=self.dim, layers=self.layers),
            negatives=SharedNegatives(self.negatives),
            optimization=Optimization(batch_size=self.batch_size, sampling=self.sampling),
        )

    @property
    def epoch(self) -> EpochPlan:
        """One step a call: what a large graph's epoch is cut into."""
        return EpochPlan(self.steps, self.steps, 1)

    def layout(self, mesh: Any) -> Layout:
        """Where the nodes lie.

        Args:
            mesh: with the axes data and model; an abstract one will do.
        """
        return Layout(self.users, self.items, mesh)

    def layout_rows(self, shards: int) -> int:
        """Rows of a table on each shard.

        Args:
            shards: S.
        """
        return sum(-(-n // shards) for n in (self.users, self.items))

    def shard_sizes(self, shards: int) -> ShardSizes:
        """What a graph would decide of the shards' arrays, as this module assumes it.

        Args:
            shards: S.
        """
        mean = 2 * self.edges / shards
        # Each end of E / S² edges is one of n / S rows; so many of these are distinct.
        pairs = self.edges / shards**2
        distinct = sum(_distinct(n / shards, pairs) for n in (self.users, self.items))
        needed = math.ceil(distinct + _SPREAD * math.sqrt(distinct))
        return ShardSizes(math.ceil(_UNEVEN * mean), min(self.layout_rows(shards), needed), mean)

    def inputs(self, layout: Layout, sizes: ShardSizes | None = None) -> StepInputs:
        """What the steps read: shapes, types and places.

        Args:
            layout: where the nodes lie.
            sizes: of the shards' arrays, where a graph is known.
        """
        # It is made from no matrix, as a storage's protocol has it.
        storage: Any = Sharded(layout).described(sizes or self.shard_sizes(layout.shards))
        everywhere = layout.everywhere

        def ints(count: int) -> Any:
            return jax.ShapeDtypeStruct((count,), jnp.int32, sharding=everywhere)

        def rows(count: int, others: int) -> CsrRows:
            longest = min(others, _LONGEST * -(-self.edges // count), _MOST // self.negatives)
            return CsrRows(ints(count + 1), ints(self.edges), longest)

        graph = BipartiteGraph(
            rows(self.users, self.items),
            rows(self.items, self.users),
            self.users,
            self.items,
            self.edges,
        )
        prepared = self.strategies.sampler.prepare(graph)
        return StepInputs(graph, Operator(storage), prepared, ints(self.users), layout=layout)

    @property
    def shuffled(self) -> int:
        """The interactions in the order of an epoch; none where users are drawn."""
        return self.edges if self.sampling == "interactions" else 0


def _distinct(rows: float, draws: float) -> float:
    """Of so many rows, how many are met in so many draws, on average."""
    return rows * -math.expm1(-draws / max(rows, 1e-12)) if rows >= 1 else min(rows, draws)


def bytes_a_device(tree: Any) -> int:
    """Bytes of arrays on each device; those that occur twice are counted once.

    Args:
        tree: shapes, types and places.
    """
    leaves = {id(leaf): leaf for leaf in jax.tree.leaves(tree)}.values()
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * _item_bytes(leaf) for leaf in leaves
    )


def _item_bytes(leaf: Any) -> int:
    # A key is two words; JAX's own types have no size of their own.
    return 8 if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else np.dtype(leaf.dtype).itemsize
