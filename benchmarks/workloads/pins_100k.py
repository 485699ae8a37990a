"""A generated graph of 100,000 items in 50,000 contexts, and how its neighbourhoods are walked."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.walks import WalkConfig

ITEMS, CONTEXTS, EDGES = 100_000, 50_000, 1_000_000
BATCH, NEIGHBORS = 2_048, 50
CONFIG = WalkConfig(walks=50, length=10, restart=0.15)


class Edges(NamedTuple):
    """A graph and the pairs that it is made of.

    Attributes:
        items: ``int32[E]`` rows of items.
        contexts: ``int32[E]`` rows of contexts.
        graph: the same for walks.
    """

    items: np.ndarray
    contexts: np.ndarray
    graph: ItemGraph


def graph_100k(seed: int = 0, scale: int = 1) -> Edges:
    """100,000 items in 1,000,000 places of contexts whose sizes fall as rank^-0.8.

    Args:
        seed: seed of the draws.
        scale: all counts are divided by it.

    Returns:
        The same edges for the same seed.
    """
    rng = np.random.default_rng(seed)
    num_items, num_contexts, edges = (count // scale for count in (ITEMS, CONTEXTS, EDGES))
    sizes = np.arange(1, num_contexts + 1) ** -0.8
    contexts = rng.choice(num_contexts, edges, p=sizes / sizes.sum()).astype(np.int32)
    items = rng.integers(0, num_items, edges, np.int32)
    graph = ItemGraph.from_pairs(items, contexts, num_items=num_items, num_contexts=num_contexts)
    return Edges(items, contexts, graph)
