"""How a layer reads the nodes: all of them for all, or in the last layer for a mini-batch alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from lightgcn_jax.arrays import Ids, NodeTable, Vectors
from lightgcn_jax.diffusion.operator import Operator, diffuse
from lightgcn_jax.diffusion.restricted import multiscale_rows


class Reach(NamedTuple):
    """What one layer reads of a table of all nodes, for the nodes that it makes vectors of.

    Attributes:
        neighbours: each node's neighbours together, Ã x.
        own: each node's own row, x.
    """

    neighbours: Callable[[NodeTable], Vectors]
    own: Callable[[NodeTable], Vectors]


def reaches(
    operator: Operator,
    layers: int,
    rows: Ids | None = None,
) -> list[Reach]:
    """One reach a layer.

    Args:
        operator: N×N.
        layers: K.
        rows: ``int32[Q]``, the nodes that are read in the end; None for all. What the last layer
            does beside Ã costs Q rows in place of N.
    """
    if rows is None:
        return [whole(lambda x: diffuse(operator, x))] * layers
    few = Reach(lambda x: multiscale_rows(operator, x, (0.0, 1.0), rows), lambda x: x[rows])
    return [whole(lambda x: diffuse(operator, x))] * (layers - 1) + [few]


def whole(neighbours: Callable[[NodeTable], NodeTable]) -> Reach:
    """All nodes."""
    return Reach(neighbours, lambda x: x)


def unconnected(layers: int) -> list[Reach]:
    """Of a graph without edges: enough to draw weights, whose shapes no graph decides."""
    return [whole(jnp.zeros_like)] * layers
