"""Objects of one's own in a run: what training asks of them, and what stands for them on disk.

A run directory keeps names, no code. Where it is opened without the object that it was made with,
a stand-in takes the object's place: figures and vectors can be read, and using the object says what
is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.errors import InputError, first_line
from lightgcn_jax.evaluation.scorer import Tables
from lightgcn_jax.models import ClosedForm, Score
from lightgcn_jax.models.model import Model, table_of
from lightgcn_jax.settings.config import Config, TrainConfig
from lightgcn_jax.settings.registry import StandIn, described, own_objects
from lightgcn_jax.training.samplers import NegativeSampler

# As many as a loss of one's own is tried with.
_NEGATIVES = 64


def _refuse(missing: StandIn, *_: Any, **__: Any) -> NoReturn:
    raise InputError(
        f"{missing.field}: the run was made with one of your own, {missing.description}; give the "
        f"same object from Python as {missing.field}=…"
    )


def _missing(base: type, *methods: str, **attributes: Any) -> Any:
    """A class that stands in for a subclass of ``base``, and refuses to be used."""
    refused = dict.fromkeys(methods, _refuse)
    return type(f"Missing{base.__name__}", (StandIn, base), refused | attributes)


_STAND_INS = {
    # It reads its own rows, or a run with lazy Adam could not be opened.
    "model": _missing(Model, "init", "apply", width=property(_refuse), reads_own_rows=True),
    "score": _missing(Score, "init", "__call__", "scorer"),
    "loss": _missing(object, "__call__"),
    "negatives": _missing(NegativeSampler, "__call__", "num_items"),
}
MISSING_OPTIMIZER: Any = _missing(object, "init", "update")(
    "an optax transformation, of which a run keeps no description", "optimizer"
)
"""Stands for the optimizer of a run that was not trained by Adam."""
# It uses a key, or a run of several seeds could not be opened.
_MISSING_CLOSED_FORM = _missing(ClosedForm, "fit", "rebuilt", uses_key=True)


def in_place_of(
    descriptions: Mapping[str, str], given: Mapping[str, Any], path: Path, *, is_trained: bool
) -> dict[str, Any]:
    """The objects that were given for those of a run, and stand-ins for the others.

    Args:
        descriptions: descriptions of the run's objects, by field.
        given: objects by field; None where none was given.
        path: the run, for messages.
        is_trained: whether the run's model is trained epoch by epoch.

    Raises:
        InputError: an object was given where the run has a named one, or another object.
    """
    objects = {field: value for field, value in given.items() if value is not None}
    for field, value in objects.items():
        if field not in descriptions:
            raise InputError(
                f"{field}: expected none, as the run {path} names its own, got {described(value)}"
            )
        if described(value) != descriptions[field]:
            raise InputError(
                f"{field}: expected {descriptions[field]}, with which {path} was started, "
                f"got {described(value)}"
            )
    stand_ins = _STAND_INS if is_trained else {"model": _MISSING_CLOSED_FORM}
    for field in descriptions.keys() - objects.keys():
        objects[field] = stand_ins[field](descriptions[field], field)
    return objects


def those_of(descriptions: Mapping[str, str], objects: Iterable[Any]) -> dict[str, Any]:
    """The objects that a run was made with, by field.

    Args:
        descriptions: descriptions of the run's objects, by field.
        objects: any objects; the others are passed over.
    """
    fields = {description: field for field, description in descriptions.items()}
    return {fields[described(one)]: one for one in objects if described(one) in fields}


def check_complete(config: Config, optimizer: Any = None) -> None:
    """Make sure that no object of one's own is missing.

    Args:
        config: a run's settings.
        optimizer: what trains in the place of Adam, if anything.

    Raises:
        InputError: one is.
    """
    for field in own_objects(config):
        value = getattr(config, field)
        if isinstance(value, StandIn):
            _refuse(value)
    if isinstance(optimizer, StandIn):
        _refuse(optimizer)


def check_own_objects(config: TrainConfig, num_nodes: int, optimizer: Any = None) -> None:
    """Refuse what training or ranking could not use, before anything is compiled or written.

    Args:
        config: the settings; what has a name is known to fit.
        num_nodes: N.
        optimizer: what trains in the place of Adam, if anything.

    Raises:
        InputError: an L2 penalty without layer-0 embeddings, a table without a row for each node,
            a loss that gives no number, a score that ranks otherwise than it trains, or an
            optimizer that is none or stands beside ``lazy_adam``.
    """
    if optimizer is not None and not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise InputError(
            f"optimizer: expected an optax transformation, optax.sgd(0.1) for instance, got "
            f"{optimizer!r}"
        )
    if optimizer is not None and config.optimization.lazy_adam:
        raise InputError(
            f"optimizer: expected none beside lazy_adam, which chooses Adam, got {optimizer!r}"
        )
    own, model = own_objects(config), config.model
    if "model" in own:
        shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), num_nodes))
        table = table_of(shapes)
        if table is None and config.optimization.l2:
            raise InputError(
                f"l2: expected 0 for {own['model']}, whose parameters hold no leaf named table to "
                f"penalise, got {config.optimization.l2:g}"
            )
        if table is not None and table.shape[:1] != (num_nodes,):
            raise InputError(
                f"model: expected a table with a row for each of {num_nodes} nodes, got "
                f"{table.dtype}{list(table.shape)} from {own['model']}"
            )
    if "loss" in own:
        _check_loss(config, own["loss"])
    if "score" in own:
        _check_score(config.score, model.width, own["score"])


def check_vectors(config: TrainConfig, num_nodes: int, operator: Any) -> None:
    """Make sure that a model of one's own gives a vector to each node.

    Args:
        config: the settings.
        num_nodes: N.
        operator: what the model reads of the graph.

    Raises:
        InputError: it gives something else.
    """
    model = config.model
    if "model" not in own_objects(config):
        return
    vectors = jax.eval_shape(
        lambda operator: model.apply(model.init(jax.random.key(0), num_nodes), operator), operator
    )
    if vectors.shape != (num_nodes, model.width):
        raise InputError(
            f"model: expected apply to give float[{num_nodes}, {model.width}], a vector for each "
            f"node and as wide as its dim or width says, got {vectors.dtype}{list(vectors.shape)}"
        )


def check_sampler(config: TrainConfig, prepared: Any) -> None:
    """Make sure that a sampler of one's own gives items, and says which of them count.

    Args:
        config: the settings.
        prepared: what the sampler reads of the graph.

    Raises:
        InputError: it gives something else.
    """
    description = own_objects(config).get("negatives")
    if description is None:
        return
    size = config.optimization.batch_size
    rows, weights = (jax.ShapeDtypeStruct((size,), kind) for kind in (jnp.int32, jnp.float32))
    key = jax.random.key(0)
    try:
        items, valid, *_ = jax.eval_shape(
            config.strategies.sampler, key, prepared, rows, rows, weights
        )
        wanted = (size, items.shape[-1])
        fits = items.shape in (wanted, wanted[1:]) and valid.shape == wanted
        fits = fits and jnp.issubdtype(items.dtype, jnp.integer) and valid.dtype == bool
        got = ", ".join(f"{one.dtype}{list(one.shape)}" for one in (items, valid))
    except (TypeError, AttributeError) as error:
        fits, got = False, f"an error: {first_line(error)}"
    if not fits:
        raise InputError(
            f"negatives: expected {description} to make of key, graph, users, positives and "
            f"weights Negatives(items int32[M] or int32[B, n], valid bool[B, M] or bool[B, n]), "
            f"got {got}"
        )


def _check_loss(config: TrainConfig, description: str) -> None:
    """A loss that gave a number for each negative would be averaged over pads too, or over rows."""
    scores = jax.ShapeDtypeStruct((_NEGATIVES,), jnp.float32)
    row = [jax.ShapeDtypeStruct((), jnp.float32), scores, jax.ShapeDtypeStruct((_NEGATIVES,), bool)]
    row += [scores] if config.strategies.corrects_sampling else []
    try:
        found = jax.eval_shape(config.loss, *row)
    except TypeError as error:
        raise InputError(
            f"loss: expected {description} to compute with jax.numpy from positive float[], "
            f"negatives float[M] and valid bool[M]; it fails: {first_line(error)}"
        ) from error
    except Exception:
        return  # It may be made for another M; training says what is wrong.
    shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", None)
    if shape != () or dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        got = type(found).__name__ if shape is None else f"{dtype}{list(shape)}"
        raise InputError(
            f"loss: expected {description} to give one floating number for a positive and its "
            f"negatives, such as the mean over those that are valid, got {got}"
        )


def _check_score(score: Score, width: int, description: str) -> None:
    """Training scores shared items and items of each row; ranking goes by vectors that are kept."""
    head = score.init(jax.random.key(0), width)
    users, items = jax.random.normal(jax.random.key(1), (2, 3, width))
    offsets = jnp.arange(3.0) if score.offset_columns else None
    # Row r has the items in another order, r places on.
    own_items = jnp.stack([jnp.roll(items, row, axis=0) for row in range(3)])
    with jax.default_matmul_precision("highest"):
        shared = score(head, users, items)
        each = score(head, users, own_items)
        each = jnp.stack([jnp.roll(scores, -row) for row, scores in enumerate(each)])
        scorer = score.scorer(*score.vectors(users, items, offsets), head)
        ranked = scorer.scores(jnp.arange(3, dtype=jnp.int32)).T
    ranked = ranked if offsets is None else ranked - offsets[None]
    for what, found in (("for items of each row", each), ("in ranking", ranked)):
        if found.shape != shared.shape or not np.allclose(found, shared, 1e-4, 1e-4):
            raise InputError(
                f"score: expected {description} to give the same scores for shared items and "
                f"{what}; beside __call__, vectors and scorer say what is ranked"
            )
    if not isinstance(scorer, Tables):
        raise InputError(
            f"score: expected {description} to rank by vectors, a HeadScorer or an InnerProduct, "
            f"got {scorer!r}"
        )
