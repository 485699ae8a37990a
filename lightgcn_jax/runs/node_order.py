"""The order of the nodes that a run trains with: chosen once, kept with the run."""

from __future__ import annotations

import numpy as np

from lightgcn_jax.diffusion.choice import choose_ordering
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import BipartiteGraph
from lightgcn_jax.graph.ordering import node_order
from lightgcn_jax.runs.directory import RunDirectory
from lightgcn_jax.settings.config import TrainConfig


def training_ordering(
    config: TrainConfig, num_edges: int, backend: str, *, own_optimizer: bool
) -> str:
    """The name of the ordering to train with.

    An order helps applications only, and only Adam is known to treat all nodes alike.

    Args:
        config: the settings.
        num_edges: E.
        backend: the storage's name.
        own_optimizer: the run was given an optax transformation.

    Raises:
        InputError: an ordering was asked for beside such a transformation, or for a model that
            takes maxima over the edges.
    """
    if own_optimizer and config.ordering not in ("auto", "none"):
        raise InputError(
            f"ordering: expected auto or none beside an optimizer of your own, which may treat "
            f"nodes by their rows, got {config.ordering!r}"
        )
    if config.aggregate == "max" and config.ordering not in ("auto", "none"):
        raise InputError(
            f"ordering: expected auto or none beside aggregate max, which walks the edges of the "
            f"graph as they are, got {config.ordering!r}"
        )
    applies = config.layers and config.form.normalization(config) is not None
    if own_optimizer or not applies:
        return "none"
    return choose_ordering(config.ordering, num_edges, backend=backend).name


def kept_order(
    graph: BipartiteGraph, ordering: str, directory: RunDirectory | None
) -> np.ndarray | None:
    """The node at each place, ``int32[N]``; None for the ordering ``none``.

    A run directory keeps it, so that a resumed run adds up in the same order wherever it resumes.

    Raises:
        InputError: what the run directory keeps is no order of the nodes.
    """
    order = directory.order(graph.num_nodes) if directory and ordering != "none" else None
    if order is None:
        order = node_order(graph, ordering)
        if order is not None and directory is not None:
            directory.write_order(order)
    return order
