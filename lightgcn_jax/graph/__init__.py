"""From interactions to what a device can hold."""

from lightgcn_jax.graph.bipartite import (
    BipartiteGraph,
    CsrRows,
    contains,
    count_below,
    csr_rows,
    training_graph,
    walk_rows,
)
from lightgcn_jax.graph.csr import CsrMatrix
from lightgcn_jax.graph.normalization import (
    TRANSPOSED,
    Normalization,
    edge_reversal,
    normalized_adjacency,
    normalized_interactions,
)
from lightgcn_jax.graph.ordering import NodeOrder, Ordering, node_order

__all__ = [
    "TRANSPOSED",
    "BipartiteGraph",
    "CsrMatrix",
    "CsrRows",
    "NodeOrder",
    "Normalization",
    "Ordering",
    "contains",
    "count_below",
    "csr_rows",
    "edge_reversal",
    "node_order",
    "normalized_adjacency",
    "normalized_interactions",
    "training_graph",
    "walk_rows",
]
