"""Items and contexts as a graph: walks, neighbourhoods, PageRank."""

from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.neighborhoods import (
    NeighborTable,
    build_table,
    importance_neighbors,
    walked_neighbors,
)
from pinsage_jax.graph.walks import WalkConfig, walk

__all__ = [
    "ItemGraph",
    "NeighborTable",
    "WalkConfig",
    "build_table",
    "importance_neighbors",
    "walk",
    "walked_neighbors",
]
