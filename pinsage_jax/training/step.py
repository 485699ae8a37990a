"""One training step: draw negatives, gather the batch's part of the graph, score, update.

For a pair (q, p) of the batch, M negatives shared by all pairs and up to H hard ones of q's own,
the loss of a row compares ⟨z_q, z_p⟩ with ⟨z_q, z_n⟩ over the negatives that count for it. Every
item of the batch is embedded once: the shared negatives cost M embeddings, not B × M.

On a mesh each device does so for its rows (:mod:`pinsage_jax.training.division`).

The loss is the weighted mean over the rows of a mean (max-margin, bpr, binary) or a sum (softmax)
over the row's negatives. Shared and hard ones stand together, or with ``hard_weight`` ω the loss is
(1 − ω) times that of the shared and ω times that of the hard ones. There is no L2 penalty.

References:
    Ying et al. 2018, section 3.3 (equation 1, shared and hard negatives).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lightgcn_jax.arrays import Array, Float, Ids, Int, Mask, PRNGKey, Scalar, Vectors
from lightgcn_jax.training.batch_terms import batch_mean
from lightgcn_jax.training.losses import BPR, Binary, Loss, MaxMargin, Softmax
from pinsage_jax.config import PinSageConfig
from pinsage_jax.encoder.blocks import (
    Capacities,
    LayerBlock,
    WholeLayer,
    embed_blocks,
    fits,
    make_blocks,
    mark_upper,
    on_all,
    whole_layers,
)
from pinsage_jax.encoder.pinsage import Features, Params, PinSage, applied
from pinsage_jax.negatives.distance_weighted import chosen_by_distance
from pinsage_jax.negatives.shared import hard_valid, shared_valid
from pinsage_jax.training.batch import (
    Batch,
    ItemArrays,
    Targets,
    draw_targets,
    log_expected_draws,
    training_view,
)
from pinsage_jax.training.division import ALONE, Division


class TrainState(NamedTuple):
    """Parameters and the optimizer's state.

    Attributes:
        params: the encoder's parameters.
        optimizer: the moments of these.
    """

    params: Params
    optimizer: optax.OptState


class StepRecord(NamedTuple):
    """The figures of a step.

    Attributes:
        loss: the loss before the update.
        counts: ``int32[K + 1]``, the sizes of S_0 … S_K; R for layers of all items.
        tier: which of the declared capacities the step took.
    """

    loss: Scalar
    counts: Int[Array, " layers_plus_one"]
    tier: Int[Array, ""]


def in_places(targets: Targets, place: Ids) -> Targets:
    """Replace item rows by rows of the last layer; −1 stays.

    Args:
        targets: item rows.
        place: ``int32[R]``, the row of each target in the last layer.
    """
    return Targets(*(jnp.where(ids >= 0, place[jnp.maximum(ids, 0)], -1) for ids in targets))


def score_loss(
    key: PRNGKey,
    model: PinSage,
    params: Params,
    vectors: Vectors,
    targets: Targets,
    weights: Float[Array, " batch"],
    config: PinSageConfig,
    log_expected: Float[Array, "..."] | None = None,
    *,
    items: Targets | None = None,
    division: Division = ALONE,
) -> Scalar:
    """Compute the loss of a batch from the vectors of its targets.

    Args:
        key: consumed where negatives are chosen by distance.
        model: the encoder.
        params: its parameters.
        vectors: ``float[n, D]``.
        targets: their rows; no item has two.
        weights: ``float[B]``, 0 for rows that do not count.
        config: the settings.
        log_expected: how often each negative is expected among the draws
            (:func:`pinsage_jax.training.batch.log_expected_draws`). A hard negative is not drawn
            from that law: it counts once.
        items: the item of each target; of shared negatives those of all devices. None where rows
            tell items apart, on one device.
        division: how the batch is divided. ``vectors``, ``targets`` and ``weights`` are those of
            this device, and so is its part of the loss: the sum over devices is that of the batch.
    """
    items, size = targets if items is None else items, config.batch_size

    def of(rows: Array) -> Array:
        return vectors[jnp.maximum(rows, 0)]

    own = targets.queries
    queries = applied(model, params, "compose", of(own), own >= 0)
    positive = (queries * of(targets.positives)).sum(axis=1)
    negatives = of(targets.negatives)
    if config.negative_choice != "separate":
        negatives = division.everybodys(negatives, len(items.negatives))
    others, valid = _other_scores(key, queries, negatives, items, config, division)
    hard = jnp.einsum("bd,bhd->bh", queries, of(targets.hard))
    hard_counts = hard_valid(items.queries, items.positives, items.hard)
    mean = functools.partial(batch_mean, loss_of(config), total_of=division.total)
    if config.in_batch:
        # The positives of the other pairs; in a row that fills up the batch there is none.
        mates, counts = (division.everybodys(one, size) for one in (items.positives, weights))
        mates_valid = shared_valid(items.queries, items.positives, mates) & (counts > 0)[None, :]
        of_mates = division.everybodys(of(targets.positives), size)
        others = jnp.concatenate([others, queries @ of_mates.T], axis=1)
        valid = jnp.concatenate([valid, mates_valid], axis=1)
    if config.hard_weight:
        share = config.hard_weight * division.most(hard_counts.any().astype(jnp.float32))
        ordinary = mean(positive, others, valid, weights, log_expected)
        of_hard = mean(positive, hard, hard_counts, weights)
        return (1 - share) * ordinary + share * of_hard
    scores = jnp.concatenate([others, hard], axis=1)
    valid = jnp.concatenate([valid, hard_counts], axis=1)
    if log_expected is not None:
        room = [(0, 0)] * (log_expected.ndim - 1) + [(0, hard.shape[1])]
        log_expected = jnp.pad(log_expected, room)
    return mean(positive, scores, valid, weights, log_expected)


def batch_gradient(
    params: Params,
    key: PRNGKey,
    features: Features,
    blocks: Sequence[LayerBlock | WholeLayer],
    targets: Targets,
    weights: Float[Array, " batch"],
    *,
    model: PinSage,
    config: PinSageConfig,
    log_expected: Float[Array, "..."] | None = None,
    items: Targets | None = None,
    division: Division = ALONE,
) -> tuple[Scalar, Params]:
    """Compute the loss of a batch and its gradient, from all that was gathered for it.

    Args:
        params: the encoder's parameters.
        key: consumed where negatives are chosen by distance.
        features: the features of the nodes of S_0, by input.
        blocks: K layers.
        targets: rows in the last layer.
        weights: ``float[B]``, 0 for rows that do not count.
        model: the encoder.
        config: the settings.
        log_expected, items, division: as :func:`score_loss` takes them.
    """

    def loss(params: Params) -> Scalar:
        vectors = embed_blocks(model, params, features, blocks)
        given = key, model, params, vectors, targets, weights, config, log_expected
        return score_loss(*given, items=items, division=division)

    return division.total(jax.value_and_grad(loss)(params))


def _other_scores(
    key: PRNGKey,
    queries: Vectors,
    negatives: Array,
    items: Targets,
    config: PinSageConfig,
    division: Division,
) -> tuple[Float[Array, "batch negatives"], Mask]:
    """Scores of the negatives that are not hard, and which of them count for each row."""
    if config.negative_choice == "separate":
        valid = hard_valid(items.queries, items.positives, items.negatives)
        return jnp.einsum("bd,bmd->bm", queries, negatives), valid
    valid = shared_valid(items.queries, items.positives, items.negatives)
    scores = queries @ negatives.T
    if config.negative_choice == "shared":
        return scores, valid
    luck = jax.random.uniform(key, (config.batch_size, config.distance_weighted))
    chosen = chosen_by_distance(
        division.own(luck), *jax.lax.stop_gradient((queries, negatives)), valid
    )
    inside = jnp.maximum(chosen, 0)
    scores = jnp.take_along_axis(scores, inside, axis=1)
    return scores, jnp.take_along_axis(valid, inside, axis=1) & (chosen >= 0)


def loss_of(config: PinSageConfig) -> Loss:
    """Make the loss of one row that the settings name.

    Args:
        config: the settings.
    """
    temperature = config.temperature
    return {
        "max-margin": MaxMargin(config.margin),
        "bpr": BPR(temperature),
        "binary": Binary(temperature),
        "softmax": Softmax(temperature, sampling_correction=config.sampling_corrected),
    }[config.loss]


def train_step(
    state: TrainState,
    batch: Batch,
    key: PRNGKey,
    active: Scalar,
    items: ItemArrays,
    *,
    model: PinSage,
    optimizer: optax.GradientTransformation,
    config: PinSageConfig,
    capacities: tuple[Capacities, ...],
    division: Division = ALONE,
) -> tuple[TrainState, StepRecord]:
    """Take one step.

    The sizes of a batch's layers are known before anything is computed, and the smallest declared
    capacities that hold them are taken; on a mesh those that hold the layers of every device. Where
    batches read nearly all items, the lower layers are those of all items (``items.pooling``).

    Args:
        state: the parameters and moments before the step.
        batch: the pairs.
        key: consumed.
        active: ``int32[]``, how many hard negatives of a query count in this epoch.
        items: the arrays of the items.
        model: the encoder.
        optimizer: what turns gradients into updates.
        config: the settings.
        capacities: declared before the run, ascending; the last holds every batch.
        division: how the batch is divided among devices.

    Returns:
        The state after the step, and its figures.
    """
    keys = jax.random.split(key, 3)
    settings = {"model": model, "config": config, "division": division}
    of_device = functools.partial(_loss_and_gradient, capacities=capacities, **settings)
    record, gradient = division.each(of_device, state.params, batch, keys, active, items)
    return moved(state, gradient, optimizer), record


def _loss_and_gradient(
    params: Params,
    batch: Batch,
    keys: Array,
    active: Scalar,
    items: ItemArrays,
    *,
    model: PinSage,
    config: PinSageConfig,
    capacities: tuple[Capacities, ...],
    division: Division,
) -> tuple[StepRecord, Params]:
    """What every device computes: it draws the whole batch, and embeds its own part of it."""
    draw_key, view_key, choice_key = keys
    drawn = draw_targets(draw_key, batch, items, active, config)
    log_expected = log_expected_draws(drawn, items.log_draws, config)
    view = training_view(view_key, drawn, items, config)
    targets = division.own_targets(drawn)
    identities = targets
    if config.negative_choice == "separate" and log_expected is not None:
        log_expected = division.own(log_expected)
    if config.negative_choice != "separate":
        identities = targets._replace(negatives=drawn.negatives)

    def gradient_of(
        params: Params,
        nodes: Ids | None,
        layers: Sequence[LayerBlock | WholeLayer],
        place: Ids,
    ) -> tuple[Scalar, Params]:
        return batch_gradient(
            params,
            choice_key,
            view.features(nodes),
            layers,
            in_places(targets, place),
            division.own(batch.weights),
            model=model,
            config=config,
            log_expected=log_expected,
            items=identities,
            division=division,
        )

    if items.pooling is not None:
        sizes, num_items = capacities[0], view.num_rows
        whole = whole_layers(capacities, num_items)
        upper = mark_upper(view, targets.ids, sizes[whole:])
        layers = (WholeLayer(items.pooling, view.lost),) * (whole - 1)
        value, gradient = gradient_of(params, None, *on_all(view, upper, sizes[whole:], layers))
        counts = jnp.concatenate([jnp.full(whole, num_items, jnp.int32), upper.counts])
        return StepRecord(value, counts, jnp.int32(0)), gradient

    marks = division.find_layers(view, targets.ids, config.layers, capacities[-1])

    def gradient_within(sizes: Capacities) -> Callable[[Params, Any], tuple[Scalar, Params]]:
        def gradient(params: Params, marks: Any) -> tuple[Scalar, Params]:
            return gradient_of(params, *make_blocks(view, marks, sizes))

        return gradient

    counts = division.most(marks.counts)
    tier = fits(counts, capacities)
    branches = [gradient_within(sizes) for sizes in capacities]
    value, gradient = jax.lax.switch(tier, branches, params, marks)
    return StepRecord(value, counts, tier), gradient


def moved(
    state: TrainState, gradient: Params, optimizer: optax.GradientTransformation
) -> TrainState:
    """Update the parameters.

    Args:
        state: the parameters and moments before the update.
        gradient: the gradient of the loss by the parameters.
        optimizer: what turns it into an update.
    """
    updates, moments = optimizer.update(gradient, state.optimizer, state.params)
    return TrainState(optax.apply_updates(state.params, updates), moments)
