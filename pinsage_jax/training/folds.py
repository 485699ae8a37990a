"""Folds: training asks its questions as the test does.

A pair of training is two items of one context. While that context stands in the graph that is
walked, both items have its company among their neighbours, and the encoder learns to trust what no
held-out pair will show it. Therefore the training edges are cut into K folds. The pairs of a step
are made of one fold's edges; neighbours, degrees and the contexts whose vectors are summed for an
item's structure come from all others. An epoch passes through all folds, so that every edge is
asked about once.

The vectors of contexts are those of all training edges. That is an approximation: in each of
them an asked edge is one of many.

Validation and test are asked of the graph of all training edges.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pinsage_jax.config import PinSageConfig, stream
from pinsage_jax.data.items import kept_edges
from pinsage_jax.encoder.pinsage import STRUCTURE
from pinsage_jax.features.schema import LOG_DEGREE, FeatureSchema
from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.neighborhoods import NeighborTable, build_table
from pinsage_jax.graph.structure import Structure
from pinsage_jax.tasks.pairs import ExplicitPairs, PairSource
from pinsage_jax.tasks.task import Task


class Fold(NamedTuple):
    """What the steps of one fold read.

    Attributes:
        pairs: the source of its pairs.
        table: the neighbours of all items.
        features: the encoded features of all items, by input.
    """

    pairs: PairSource
    table: NeighborTable
    features: dict[str, np.ndarray]


def neighbors_of(graph: ItemGraph, config: PinSageConfig, *, epoch: int) -> NeighborTable:
    """Draw the neighbours of all items for an epoch; none where the encoder has no layers.

    Args:
        graph: the graph that is walked.
        config: the settings.
        epoch: the epoch before which they are drawn; 0 for the start.
    """
    if not config.uses_graph:
        none = jnp.full((graph.num_items, 1), -1, jnp.int32)
        return NeighborTable(none, jnp.zeros(none.shape, jnp.float32))
    key = jax.random.fold_in(stream(config, "walks"), epoch)
    return build_table(key, graph, neighbors=config.neighbors, config=config.walk_config)


def folds_of(
    task: Task,
    config: PinSageConfig,
    whole: Fold,
    schema: FeatureSchema,
    structure: Structure | None,
    *,
    epoch: int,
) -> tuple[Fold, ...]:
    """Cut the training edges into folds, and walk what each leaves.

    Args:
        task: what is trained on.
        config: the settings.
        whole: the pairs, neighbours and features of the graph of all training edges.
        schema: how features are encoded.
        structure: of the graph of all training edges; None without.
        epoch: the epoch before which neighbours are drawn; 0 for the start.

    Returns:
        The folds; ``whole`` alone where the settings ask for none, or the pairs were given and no
        edge says which items make one. The cut is always the same, and copies of a repeated edge
        share a fold.
    """
    if not config.folds or isinstance(task.pairs, ExplicitPairs):
        return (whole,)
    train = task.train
    keys, copies = np.unique(train.pair_keys, return_inverse=True)
    # The 2 tells its numbers from those of an epoch's batches.
    cut = np.random.default_rng([config.seed, 0, 2]).permutation(len(keys)) % config.folds
    return tuple(
        _fold(task, config, whole, schema, structure, cut[copies] == fold, epoch)
        for fold in range(config.folds)
    )


def _fold(
    task: Task,
    config: PinSageConfig,
    whole: Fold,
    schema: FeatureSchema,
    structure: Structure | None,
    asked: np.ndarray,
    epoch: int,
) -> Fold:
    walked = kept_edges(task.train, ~asked)
    graph = ItemGraph.from_pairs(
        walked.item_rows,
        walked.user_rows,
        num_items=walked.num_items,
        num_contexts=walked.num_users,
    )
    features = dict(whole.features)
    if LOG_DEGREE in features:
        # As many contexts as the item would have if its asked edges were walked too.
        degrees = np.rint(graph.item_degrees() * config.folds / (config.folds - 1))
        features[LOG_DEGREE] = schema.encode_degrees(degrees.astype(np.int64))
    if structure is not None:
        features[STRUCTURE] = structure.items(graph)
    return Fold(task.pairs.apart(asked), neighbors_of(graph, config, epoch=epoch), features)
