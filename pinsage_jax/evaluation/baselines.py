"""Baselines: rankings of held-out pairs that need no training.

Each makes of a task a ``Scorer`` with a query for every row of a
:class:`~pinsage_jax.tasks.task.HeldOut`, which
:func:`pinsage_jax.evaluation.metrics.evaluate_items` ranks like any model. ``BASELINES`` has them
by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Float, Ids, Int, PRNGKey
from lightgcn_jax.diffusion.operator import diffuse
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import InnerProduct, Scorer
from lightgcn_jax.graph.bipartite import BipartiteGraph
from lightgcn_jax.models.itemcf import ItemCf, ItemCfScorer, nearest_items
from lightgcn_jax.models.trivial import PopularScorer, RandomScorer
from pinsage_jax.config import CUTOFFS
from pinsage_jax.evaluation.feature_cosine import FeatureCosine, feature_cosine
from pinsage_jax.evaluation.metrics import ranked_metrics
from pinsage_jax.evaluation.ranks import compose_queries
from pinsage_jax.features.schema import fit_schema
from pinsage_jax.graph.pagerank import Chain
from pinsage_jax.graph.structure import Structure
from pinsage_jax.tasks.task import HeldOut, Task, graph_of, with_fresh_edges


def popularity(task: Task, held_out: HeldOut) -> PopularScorer:
    """Score an item by the number of its training edges, alike for every query.

    Args:
        task: the training edges.
        held_out: Q queries.
    """
    degrees = np.bincount(task.train.item_rows, minlength=task.train.num_items)
    return PopularScorer(jnp.asarray(degrees, jnp.float32), held_out.relevant.num_rows)


def random_scores(key: PRNGKey, task: Task, held_out: HeldOut) -> RandomScorer:
    """Score items at random, anew for each query.

    Args:
        key: the key of the scores.
        task: its items are scored.
        held_out: Q queries.
    """
    return RandomScorer(key, held_out.relevant.num_rows, task.train.num_items)


def item_cosine(task: Task, held_out: HeldOut, model: ItemCf | None = None) -> ItemCfScorer:
    """Score items by item-based collaborative filtering on the training edges.

    An item's score is the sum of its cosines to the *seen* items of a query: in tasks of users
    those are all training items of the user, in tasks of items the query itself. Repeated edges
    count once.

    Args:
        task: the training edges.
        held_out: Q queries.
        model: how many neighbours of an item are kept; None for the default.
    """
    train = task.train.deduplicated()
    graph = BipartiteGraph.from_pairs(
        train.user_rows, train.item_rows, num_users=train.num_users, num_items=train.num_items
    )
    found = nearest_items(graph, (model or ItemCf()).neighbours)
    return ItemCfScorer(jax.device_put(found.items), jax.device_put(found.cosines), held_out.seen)


@flax.struct.dataclass
class GraphScores:
    """Scores an item by where walks from a query's items lead, a mean over these items.

    Walks are linear in where they start, so one column that starts at all of a query's items holds
    the mean of their columns.

    Attributes:
        chain: the two steps of a traversal.
        queries: ``int32[Q, n]``, item rows, −1 pads.
        restart: the probability of going back to the start.
        iterations: static; how many traversals are followed.
    """

    chain: Chain
    queries: Int[Array, "queries items"]
    restart: float
    iterations: int = flax.struct.field(pytree_node=False)

    @property
    def num_queries(self) -> int:
        """Q."""
        return self.queries.shape[0]

    @property
    def num_items(self) -> int:
        """R."""
        return self.chain.to_items.shape[0]

    @property
    def block_bytes_per_query(self) -> int:
        """What a query takes beside its scores: columns of items and of contexts."""
        return 12 * sum(self.chain.to_items.shape)

    def scores(self, rows: Ids) -> Float[Array, "items queries"]:
        """Scores of all items for some queries.

        Args:
            rows: ``int32[B]``, queries.
        """
        items = self.queries[rows]
        valid = (items >= 0).astype(jnp.float32)
        shares = valid / jnp.maximum(valid.sum(axis=1), 1)[:, None]
        slots = jnp.arange(rows.shape[0], dtype=jnp.int32)
        place = jnp.maximum(items, 0), slots[:, None]
        start = jnp.zeros((self.num_items, rows.shape[0]), jnp.float32).at[place].add(shares)

        def step(_, x: Array) -> Array:
            moved = diffuse(self.chain.to_items, diffuse(self.chain.to_contexts, x))
            return ((1 - self.restart) * moved).at[place].add(self.restart * shares)

        return jax.lax.fori_loop(0, self.iterations, step, start)


def cooccurrence(task: Task, held_out: HeldOut) -> GraphScores:
    """Score an item by the number of training contexts that it shares with a query's items.

    Args:
        task: its training interactions are counted.
        held_out: Q queries.
    """
    return GraphScores(Chain.counting(graph_of(task)), jax.device_put(held_out.queries), 0.0, 1)


def structure(task: Task, held_out: HeldOut, *, rank: int = 256) -> InnerProduct:
    """Score an item by its structure and the mean structure of a query's items, without training.

    Args:
        task: its training interactions are diffused.
        held_out: Q queries.
        rank: entries of the structure.
    """
    graph = graph_of(task)
    of_items = jnp.asarray(Structure.of(jax.random.key(0), graph, rank).items(graph))
    return InnerProduct(compose_queries(of_items, jax.device_put(held_out.queries)), of_items)


def personal_pagerank(task: Task, held_out: HeldOut, *, restart: float = 0.15) -> GraphScores:
    """Score an item by its personalised PageRank from a query's items.

    Args:
        task: its training interactions are walked.
        held_out: Q queries.
        restart: the probability of going back to the start.
    """
    return GraphScores(Chain.of(graph_of(task)), jax.device_put(held_out.queries), restart, 10)


def features(task: Task, held_out: HeldOut, columns: Sequence[str] | None = None) -> FeatureCosine:
    """Score an item by the cosine of its features with those of a query's items.

    Columns are encoded as the encoder reads them, by the statistics of the task's training items;
    the number of contexts is no feature here.

    Args:
        task: its items' features are compared.
        held_out: Q queries.
        columns: the columns that are compared; None for all.

    Raises:
        InputError: the items have no columns, or a column is not there.
    """
    table = task.data.features
    if columns is not None:
        table = table.select(columns)
    if not table.columns:
        raise InputError(
            f"features: expected at least one column to compare by, {task.data.name} has none"
        )
    degrees = np.zeros(table.num_rows, np.int64)
    schema = fit_schema(table, np.flatnonzero(task.train_items), degrees, log_degree=False)
    return feature_cosine(schema.inputs(), {**schema.encode(table, degrees)}, held_out.queries)


Baseline = Callable[[Task, HeldOut], Scorer]

BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {
        "popularity": popularity,
        "cooccurrence": cooccurrence,
        "item-cosine": item_cosine,
        "pagerank": personal_pagerank,
        "structure": structure,
        "features": features,
    }
)
"""The baselines by name."""


def lines_to_read_against(task: Task, ks: Sequence[int] = CUTOFFS) -> dict[str, dict[str, float]]:
    """Evaluate what needs no encoder on test: popularity, and the features where there are any.

    Args:
        task: the training edges and the held-out pairs.
        ks: cut-offs.

    Returns:
        The metrics by baseline, ranked among the training items.
    """
    names = ["popularity", *(["features"] if task.data.features.columns else [])]
    pool = np.flatnonzero(task.train_items)
    return {
        name: ranked_metrics(BASELINES[name](task, task.test), task.test, pool, ks)
        for name in names
    }


def evaluate_baseline(
    task: Task, name: str, ks: Sequence[int] = CUTOFFS
) -> dict[str, dict[str, float]]:
    """Evaluate a baseline on all parts of a task.

    Args:
        task: the training edges and the held-out pairs.
        name: one of ``BASELINES``.
        ks: cut-offs.

    Returns:
        As :func:`evaluate_scores`.

    Raises:
        InputError: there is none of that name, or the items lack what it compares.
    """
    if name not in BASELINES:
        raise InputError(f"unknown baseline {name!r}: expected one of {', '.join(BASELINES)}")
    return evaluate_scores(task, BASELINES[name], ks)


def evaluate_scores(
    task: Task, baseline: Baseline, ks: Sequence[int] = CUTOFFS
) -> dict[str, dict[str, float]]:
    """Evaluate anything that scores without training, on all parts of a task.

    Added items are the held-out ones with those of their edges that the task gives back. Scores are
    made anew of all edges that there are then.

    Args:
        task: the training edges and the held-out pairs.
        baseline: makes the scores.
        ks: cut-offs.

    Returns:
        The metrics of :mod:`pinsage_jax.evaluation.metrics` by part: ``valid`` and ``test``, ranked
        among the training items; where the task holds items out also ``fresh``, the pairs whose
        positive was added, and ``known``, the pairs of test, both ranked among all items.
    """
    pool = np.flatnonzero(task.train_items)
    parts = {
        "valid": ranked_metrics(baseline(task, task.valid), task.valid, pool, ks),
        "test": ranked_metrics(baseline(task, task.test), task.test, pool, ks),
    }
    if task.fresh is not None:
        grown = with_fresh_edges(task)
        parts["fresh"] = ranked_metrics(baseline(grown, task.fresh), task.fresh, ks=ks)
        parts["known"] = ranked_metrics(baseline(grown, task.test), task.test, ks=ks)
    return parts
