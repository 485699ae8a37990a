"""What ranks by a trained model: always the score that its training used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import check_array
from lightgcn_jax.evaluation.scorer import InnerProduct, Scorer
from lightgcn_jax.evaluation.sharded import ShardedTables
from lightgcn_jax.models import Model, Score, split_nodes
from lightgcn_jax.models.heads import HeadScorer
from lightgcn_jax.processes.placing import on_host
from lightgcn_jax.sharding import Layout
from lightgcn_jax.sharding.mesh import MODEL
from lightgcn_jax.training import Params, StepInputs, Strategies


def make_scorer(params: Params, inputs: StepInputs, strategies: Strategies) -> Scorer:
    """The final vectors of all users and items, and their score; nothing is dropped.

    On a mesh there are rows behind the last user's and the last item's, which stand for nobody.

    Args:
        params: all that was learnt.
        inputs: what the run's steps read.
        strategies: the run's.
    """
    nodes = strategies.model.apply(params.model, inputs.operator)
    offsets = inputs.offsets
    if inputs.layout is None:
        users, items = split_nodes(nodes, inputs.graph.num_users)
    else:
        users, items = inputs.layout.sides(nodes)
        offsets = None if offsets is None else jnp.pad(offsets, (0, len(items) - len(offsets)))
    users, items = strategies.score.vectors(users, items, offsets)
    return strategies.score.scorer(users, items, params.head)


def sharded_scorer(scorer: Any, layout: Layout) -> Any:
    """What ranks on a mesh: each device its own items, where the score looks at one at a time.

    Args:
        scorer: what :func:`make_scorer` gave on a mesh.
        layout: where the nodes lie.

    Returns:
        Tables that are ranked where they lie; those of a class of one's own on one device.
    """
    counts = layout.num_users, layout.num_items
    if type(scorer) in (InnerProduct, HeadScorer):
        return ShardedTables(scorer, *counts, layout.mesh, MODEL)
    return whole_scorer(scorer, layout)


def whole_scorer(scorer: Any, layout: Layout) -> Any:
    """What ranks without the mesh: tables of the users and items that there are, on the host.

    Args:
        scorer: what :func:`make_scorer` gave on a mesh.
        layout: where the nodes lie.
    """
    own = jax.tree.map(on_host, scorer)
    users, items = layout.num_users, layout.num_items
    return own.replace(queries=own.queries[:users], items=own.items[:items])


def tensor_names(params: Any) -> list[str]:
    """The paths of parameters, ``params/output/bias`` for instance, in their order.

    Args:
        params: any pytree; None for a score without parameters.
    """
    paths = (path for path, _ in jax.tree.leaves_with_path(params))
    return [jax.tree_util.keystr(path, simple=True, separator="/") or "head" for path in paths]


def tensors_of(params: Any) -> dict[str, np.ndarray]:
    """Parameters by their paths, as a run keeps them.

    Args:
        params: a pytree of arrays; None for a score without parameters.
    """
    return dict(zip(tensor_names(params), map(np.asarray, jax.tree.leaves(params)), strict=True))


def kept_params(model: Model, params: Any) -> dict[str, np.ndarray]:
    """The parameters of a model that a run keeps beside its final vectors, by their paths.

    Args:
        model: the run's; one without a graph says all by its vectors.
        params: the model's; None where they are not at hand.
    """
    return {} if model.normalization is None else tensors_of(params)


def head_shapes(score: Score, width: int) -> Any:
    """Shapes and types of a score's parameters.

    Args:
        score: the run's.
        width: D', the columns of the model's vectors.
    """
    return jax.eval_shape(lambda: score.init(jax.random.key(0), width))


def from_tensors(shapes: Any, tensors: Mapping[str, np.ndarray]) -> Any:
    """The inverse of :func:`tensors_of`.

    Args:
        shapes: of the parameters, what :func:`head_shapes` gave for instance.
        tensors: arrays by their paths.

    Raises:
        InputError: an array has another type or shape, or numbers that are not finite.
    """
    for name, leaf in zip(tensor_names(shapes), jax.tree.leaves(shapes), strict=True):
        check_array(name, tensors[name], leaf.shape, leaf.dtype)
    leaves = [jax.device_put(tensors[name]) for name in tensor_names(shapes)]
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)
