"""What ranks by a trained model: always the score that its training used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from lightgcn_jax.evaluation.scorer import Scorer
from lightgcn_jax.models.heads import Score
from lightgcn_jax.models.model import split_nodes
from lightgcn_jax.training.step import Params
from lightgcn_jax.training.strategies import StepInputs, Strategies


def make_scorer(params: Params, inputs: StepInputs, strategies: Strategies) -> Scorer:
    """The final vectors of all users and items, and their score; nothing is dropped.

    Args:
        params: all that was learnt.
        inputs: what the run's steps read.
        strategies: the run's.
    """
    nodes = strategies.model.apply(params.model, inputs.operator)
    users, items = split_nodes(nodes, inputs.graph.num_users)
    users, items = strategies.score.vectors(users, items, inputs.offsets)
    return strategies.score.scorer(users, items, params.head)


def head_tensors(head: Any) -> dict[str, np.ndarray]:
    """The parameters of a score by their paths, as a run keeps them.

    Args:
        head: nested mappings of arrays; None for a score without parameters.
    """
    flat = traverse_util.flatten_dict(head or {}, sep="/")
    return {name: np.asarray(value) for name, value in flat.items()}


def head_names(score: Score) -> frozenset[str]:
    """The names of :func:`head_tensors` for a score.

    Args:
        score: the run's.
    """
    head = jax.eval_shape(lambda: score.init(jax.random.key(0), 1))
    return frozenset(traverse_util.flatten_dict(head or {}, sep="/"))


def head_of(tensors: Mapping[str, np.ndarray]) -> Any:
    """The inverse of :func:`head_tensors`.

    Args:
        tensors: arrays by their paths.
    """
    if not tensors:
        return None
    return traverse_util.unflatten_dict(jax.tree.map(jnp.asarray, dict(tensors)), sep="/")
