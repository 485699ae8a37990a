"""From interactions to what a device can hold."""

from lightgcn_jax.graph.bipartite import (
    BipartiteGraph,
    CsrRows,
    contains,
    count_below,
    csr_rows,
    entries,
)
from lightgcn_jax.graph.normalization import normalized_adjacency

__all__ = [
    "BipartiteGraph",
    "CsrRows",
    "contains",
    "count_below",
    "csr_rows",
    "entries",
    "normalized_adjacency",
]
