"""Graphs by name: the papers' training splits, and generated ones of any size."""

from __future__ import annotations

from pathlib import Path

from lightgcn_jax.data import given_split, load_dataset
from lightgcn_jax.data.synthetic import generate_world
from lightgcn_jax.graph import BipartiteGraph
from lightgcn_jax.graph.bipartite import training_graph

_GENERATED = {
    "generated-1m": {"users": 50_000, "items": 20_000, "mean_degree": 20.0},
    "generated-20m": {"users": 800_000, "items": 200_000, "mean_degree": 25.0},
}
"""Interactions: users × mean degree. An item's popularity is rank^-0.8, a user's activity
rank^-0.5; there are no groups."""

GRAPHS = ("gowalla", "lastfm", *_GENERATED)


def load_graph(name: str, data_dir: Path | None) -> BipartiteGraph:
    """Load or generate a graph; a generated one is the same every time.

    Args:
        name: one of :data:`GRAPHS`.
        data_dir: a folder with one folder for each data set; None for where GRAPHREC_DATA says.

    Returns:
        The graph of the training pairs.

    Raises:
        InputError: a data set is nowhere, or not what it should be.
    """
    if name not in _GENERATED:
        return training_graph(given_split(load_dataset(name, data_dir=data_dir)))
    world = generate_world(
        **_GENERATED[name], groups=1, popularity_exponent=0.8, string_ids=False
    ).interactions
    return BipartiteGraph.from_pairs(
        world.user_rows,
        world.item_rows,
        num_users=len(world.users),
        num_items=len(world.items),
    )
