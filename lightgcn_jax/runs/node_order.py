"""The order of the rows that a run trains with: chosen once, when the run starts."""

from __future__ import annotations

from jax.sharding import Mesh

from lightgcn_jax.data.pairs import MappedPairs
from lightgcn_jax.data.protocol import keeps_train
from lightgcn_jax.data.splits import Split
from lightgcn_jax.diffusion.choice import choose_backend, choose_ordering
from lightgcn_jax.graph import node_order, training_graph
from lightgcn_jax.settings.config import Config, TrainConfig
from lightgcn_jax.sharding import balanced
from lightgcn_jax.sharding.mesh import MODEL


def training_ordering(config: TrainConfig, num_edges: int) -> str:
    """The name of the ordering to train with; ``none`` for a model that applies no operator.

    Args:
        config: the settings.
        num_edges: E.
    """
    if not config.model.layers or config.model.normalization is None:
        return "none"
    backend = choose_backend(config.backend, num_entries=2 * num_edges).name
    return choose_ordering(config.ordering, num_edges, backend=backend).name


def in_training_order(split: Split, config: TrainConfig, mesh: Mesh | None = None) -> Split:
    """The split with its rows in the order that training is fastest in.

    Args:
        split: the protocol is applied.
        config: the settings of a trained model.
        mesh: the devices that tables are shared out over.
    """
    ordering = "none" if is_arranged(split, config) else training_ordering(config, len(split.train))
    order = None if ordering == "none" else node_order(training_graph(split), ordering)
    split = split if order is None else split.reordered(*order)
    return split if mesh is None else balanced(split, mesh.shape[MODEL])


def is_arranged(split: Split, config: Config) -> bool:
    """Whether rows stand in the order of training already, as those of a prepared folder do.

    They do not where the protocol makes other training pairs, or the settings want another order.

    Args:
        split: before the protocol is applied.
        config: the settings.
    """
    if not isinstance(split.train, MappedPairs):
        return False
    wanted = config.ordering if isinstance(config, TrainConfig) else "none"
    return keeps_train(split, config.protocol) and wanted in ("auto", split.train.ordering)
