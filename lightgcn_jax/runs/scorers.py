"""What ranks by a trained model: always the score that its training used."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from lightgcn_jax.arrays import Array, ItemTable, UserTable
from lightgcn_jax.evaluation.scorer import InnerProduct, Scorer
from lightgcn_jax.models.heads import MLPScorer, init_head, unit_rows
from lightgcn_jax.models.lightgcn import split_nodes
from lightgcn_jax.settings.config import TrainConfig
from lightgcn_jax.training.step import Params, Run


def make_scorer(params: Params, run: Run, config: TrainConfig) -> Scorer:
    """The final vectors of all users and items, and their score; nothing is dropped.

    Under the score ``cosine`` the vectors have length 1, so that cosines are inner products. What
    the popularity offset adds is a last column: 1 for a user, the offset for an item.
    """
    nodes = config.form.apply(params.model, run, config.shape)
    if config.score == "cosine":
        nodes = unit_rows(nodes)
    users, items = split_nodes(nodes, run.graph.num_users)
    if run.offsets is not None:
        users = jnp.pad(users, ((0, 0), (0, 1)), constant_values=1)
        items = jnp.concatenate([items, run.offsets[:, None]], axis=1)
    return scorer_of(users, items, params.head)


def scorer_of(users: UserTable, items: ItemTable, head: Mapping | None) -> Scorer:
    """Ranks by inner products, or by a network over both vectors."""
    return InnerProduct(users, items) if head is None else MLPScorer(users, items, head)


def head_tensors(scorer: Scorer) -> dict[str, np.ndarray]:
    """What a run keeps of a scorer beside its vectors: the network's variables by their paths."""
    if not isinstance(scorer, MLPScorer):
        return {}
    flat = traverse_util.flatten_dict(scorer.head, sep="/")
    return {name: np.asarray(value) for name, value in flat.items()}


def head_names(config: TrainConfig) -> frozenset[str]:
    """The names of :func:`head_tensors` for a run of these settings."""
    if config.score != "mlp":
        return frozenset()
    head = jax.eval_shape(lambda: init_head(jax.random.key(0), 1, config.hidden))
    return frozenset(traverse_util.flatten_dict(head, sep="/"))


def head_of(tensors: Mapping[str, np.ndarray]) -> Mapping[str, Mapping[str, Array]] | None:
    """The inverse of :func:`head_tensors`; None where there are none."""
    if not tensors:
        return None
    return traverse_util.unflatten_dict(jax.tree.map(jnp.asarray, dict(tensors)), sep="/")
