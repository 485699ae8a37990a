"""A finished run -> what ranks by it, and what its model learnt."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lightgcn_jax.errors import naming
from lightgcn_jax.evaluation.scorer import Scorer
from lightgcn_jax.runs.closed_form import rebuild
from lightgcn_jax.runs.directory import RunDirectory
from lightgcn_jax.runs.scorers import from_tensors, head_shapes, tensor_names
from lightgcn_jax.settings.config import Config, TrainConfig
from lightgcn_jax.settings.registry import StandIn


def load_scorer(directory: RunDirectory, config: Config | None = None) -> Scorer:
    """What ranks in a finished run: its best epoch's embeddings, or its closed form.

    Args:
        directory: the run.
        config: its settings with the objects of one's own that rank (see
            :meth:`RunDirectory.config_with`): a score, or a closed form.

    Raises:
        InputError: the run is not finished, a file of it is damaged, or such an object is missing.
    """
    config = config or directory.config
    if not isinstance(config, TrainConfig):
        return rebuild(directory, config)
    users, items = map(jnp.asarray, directory.embeddings())
    shapes = head_shapes(config.score, users.shape[1] - config.score.offset_columns)
    tensors = directory.model(tensor_names(shapes))
    with naming(directory.path / "model.safetensors"):
        head = from_tensors(shapes, tensors)
    return config.score.scorer(users, items, head)


def load_params(directory: RunDirectory, config: Config) -> Any:
    """The parameters of a finished run's model, a pytree; None where the run keeps none.

    Args:
        directory: the run.
        config: its settings with the objects of one's own, as :func:`load_scorer` takes them.

    Raises:
        InputError: the file is damaged.
    """
    if not isinstance(config, TrainConfig) or isinstance(config.model, StandIn):
        return None
    nodes = len(directory.split.users) + len(directory.split.items)
    shapes = jax.eval_shape(lambda: config.model.init(jax.random.key(0), nodes))
    tensors = directory.params(tensor_names(shapes))
    if tensors is None:
        return None
    with naming(directory.path / "parameters.safetensors"):
        return from_tensors(shapes, tensors)
