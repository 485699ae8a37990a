"""How each trained model is made and applied: from the settings of a run to its own functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from lightgcn_jax.arrays import Ids, NodeTable, PRNGKey, Vectors
from lightgcn_jax.graph.normalization import Normalization
from lightgcn_jax.models import gcn, gnn, lightgcn, mf, ngcf, sgc
from lightgcn_jax.models.gcn import GCNConfig
from lightgcn_jax.models.gnn import GNNConfig
from lightgcn_jax.models.lightgcn import LightGCNConfig
from lightgcn_jax.models.mf import MFConfig
from lightgcn_jax.models.ngcf import NGCFConfig
from lightgcn_jax.models.sgc import SGCConfig

if TYPE_CHECKING:
    from lightgcn_jax.settings.config import TrainConfig
    from lightgcn_jax.training.step import Run


class TrainedForm(NamedTuple):
    """A model that is trained, as the loop sees it.

    Attributes:
        shape: the model's own settings of a run's; InputError where they do not fit.
        init: from a key, N and those settings to parameters, whose field ``table`` has a row a
            node: the layer-0 embeddings, which L2 touches.
        apply: final vectors of all nodes, ``float[N, D']``, with nothing dropped.
        rows: the same of a few nodes, as a mini-batch reads them; a key drops what the model drops.
        normalization: of the operator that the model applies; None for a model without one.
        width: D', the columns of the final vectors.
    """

    shape: Callable[[TrainConfig], Any]
    init: Callable[[PRNGKey, int, Any], Any]
    apply: Callable[[Any, Run, Any], NodeTable]
    rows: Callable[[Any, Run, Any, Ids, PRNGKey | None], Vectors]
    normalization: Callable[[TrainConfig], Normalization | None]
    width: Callable[[TrainConfig], int] = lambda config: config.dim


TRAINED: dict[str, TrainedForm] = {
    "mf": TrainedForm(
        shape=lambda config: MFConfig(config.dim, config.biases, config.init_std),
        init=mf.init,
        apply=lambda params, run, shape: mf.apply(params, run.graph.num_users, shape),
        rows=lambda params, run, shape, nodes, _: mf.apply_rows(
            params, run.graph.num_users, shape, nodes
        ),
        normalization=lambda _: None,
        width=lambda config: config.dim + 2 * config.biases,
    ),
    "gcn": TrainedForm(
        shape=lambda config: GCNConfig(config.dim, config.layers, config.init_std),
        init=gcn.init,
        apply=lambda params, run, shape: gcn.apply(params, run.operator, shape),
        rows=lambda params, run, shape, nodes, _: gcn.apply_rows(
            params, run.operator, shape, nodes
        ),
        normalization=lambda config: config.normalization,
    ),
    "sgc": TrainedForm(
        shape=lambda config: SGCConfig(config.dim, config.layers, config.init_std),
        init=sgc.init,
        apply=lambda params, run, shape: sgc.apply(params, run.operator, shape),
        rows=lambda params, run, shape, nodes, _: sgc.apply_rows(
            params, run.operator, shape, nodes
        ),
        normalization=lambda config: config.normalization,
    ),
    "ngcf": TrainedForm(
        shape=lambda config: NGCFConfig(
            config.dim, config.layers, config.message_dropout, config.node_dropout, config.init_std
        ),
        init=ngcf.init,
        apply=lambda params, run, shape: ngcf.apply(params, run.operator, shape),
        rows=lambda params, run, shape, nodes, key: ngcf.apply_rows(
            params, run.operator, shape, nodes, key
        ),
        normalization=lambda _: "symmetric",
        width=lambda config: config.dim * (config.layers + 1),
    ),
    "gnn": TrainedForm(
        shape=lambda config: GNNConfig(
            config.dim, config.layers, config.aggregate, config.combine, config.init_std
        ),
        init=gnn.init,
        apply=lambda params, run, shape: gnn.apply(params, run.operator, shape, run.edges),
        rows=lambda params, run, shape, nodes, _: gnn.apply_rows(
            params, run.operator, shape, nodes, run.edges
        ),
        normalization=lambda config: gnn.normalization_of(config.aggregate),
    ),
    "lightgcn": TrainedForm(
        shape=lambda config: LightGCNConfig(
            config.dim,
            config.layers,
            config.alphas,
            config.init_std,
            config.learn_alphas,
            config.layer_combination,
        ),
        init=lightgcn.init,
        apply=lambda params, run, shape: lightgcn.apply(params, run.operator, shape),
        rows=lambda params, run, shape, nodes, _: lightgcn.apply_rows(
            params, run.operator, shape, nodes
        ),
        normalization=lambda config: config.normalization,
    ),
}
