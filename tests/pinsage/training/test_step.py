"""A training step: its loss by hand, capacities, negatives, what is hidden from it, its traces."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pinsage_jax.encoder.all_items import embed_all
from pinsage_jax.encoder.blocks import bounds
from pinsage_jax.encoder.pinsage import init_params, make_model
from pinsage_jax.training.batch import (
    Batch,
    Targets,
    draw_targets,
    num_targets,
    pooling_of,
)
from pinsage_jax.training.epochs import make_chunk
from pinsage_jax.training.step import TrainState, score_loss, train_step
from pinsage_jax.training.trainer import make_optimizer
from tests.pinsage.worlds import (
    INPUTS,
    ITEMS,
    LAW,
    NEIGHBORS,
    PLAIN,
    STRUCTURED,
    by_degree,
    item_arrays,
    random_features,
    random_table,
    structured_features,
)

CONFIG = dataclasses.replace(
    PLAIN,
    dim=6,
    word_dim=4,
    batch_size=4,
    negatives=5,
    hard_cap=2,
    drop_contexts=0.0,
    mask_targets=False,
)
MODEL = make_model(INPUTS, CONFIG)
PARAMS = init_params(jax.random.key(0), MODEL)
BATCH = Batch(
    jnp.array([[0], [1], [2], [39]], jnp.int32), jnp.array([4, 5, 6, 7], jnp.int32), jnp.ones(4)
)


def most_of(config):
    return bounds(num_targets(config, 1), NEIGHBORS, config.layers, ITEMS)


# Its update is the gradient; Adam's first one is little more than the gradient's sign.
SGD = optax.sgd(1.0)


def one_step(config, capacities, state, batch=BATCH, active=2, key=7, items=None):
    return train_step(
        state,
        batch,
        jax.random.key(key),
        jnp.int32(active),
        items or item_arrays(),
        model=make_model(INPUTS, config),
        optimizer=SGD,
        config=config,
        capacities=capacities,
    )


def fresh_state():
    return TrainState(PARAMS, SGD.init(PARAMS))


def scores_by_hand(targets):
    """z of all items without blocks, and the scores of a batch."""
    z = embed_all(MODEL, PARAMS, random_features(), random_table(), chunk=16).vectors.astype(float)
    q, p = z[np.asarray(targets.queries)[:, 0]], z[np.asarray(targets.positives)]
    shared = z[np.asarray(targets.negatives)]
    hard = z[np.maximum(np.asarray(targets.hard), 0)]
    return (q * p).sum(1), q @ shared.T, np.einsum("bd,bhd->bh", q, hard)


def valid_by_hand(targets, row, item):
    return item >= 0 and item not in (int(targets.queries[row, 0]), int(targets.positives[row]))


@pytest.mark.parametrize("loss", ["max-margin", "bpr", "binary", "softmax"])
def test_the_loss_of_a_step_is_the_definition(loss):
    config = dataclasses.replace(CONFIG, loss=loss)
    draw_key, _, _ = jax.random.split(jax.random.key(7), 3)
    targets = draw_targets(draw_key, BATCH, item_arrays(), jnp.int32(2), config)
    positive, shared, hard = scores_by_hand(targets)
    rows = []
    for row in range(4):
        others = [
            score
            for score, item in zip(
                np.concatenate([shared[row], hard[row]]),
                np.concatenate([np.asarray(targets.negatives), np.asarray(targets.hard[row])]),
                strict=True,
            )
            if valid_by_hand(targets, row, int(item))
        ]
        difference = np.array(others) - positive[row]
        if loss == "max-margin":
            rows.append(np.maximum(0, difference + config.margin).mean())
        elif loss == "bpr":
            rows.append(np.log1p(np.exp(difference / config.temperature)).mean())
        elif loss == "binary":
            of_positive, of_others = positive[row] / config.temperature, np.array(others)
            of_others = np.log1p(np.exp(of_others / config.temperature)).mean()
            rows.append(np.log1p(np.exp(-of_positive)) + of_others)
        else:
            rows.append(np.log(1 + np.exp(difference / config.temperature).sum()))
    _, record = jax.jit(functools.partial(one_step, config, (most_of(config),)))(fresh_state())
    np.testing.assert_allclose(record.loss, np.mean(rows), rtol=2e-5)


@pytest.mark.parametrize("choice", ["shared", "separate"])
def test_a_softmax_by_degree_weighs_each_negative_by_its_expected_draws(choice):
    """A negative that M draws are expected to hold M q times stands for 1 / (M q) items; a hard
    one, which was not drawn, for itself."""
    config = dataclasses.replace(
        CONFIG, loss="softmax", negative_law="degree", negative_choice=choice
    )
    items = item_arrays(**by_degree(config.negatives))
    draw_key, _, _ = jax.random.split(jax.random.key(7), 3)
    targets = draw_targets(draw_key, BATCH, items, jnp.int32(2), config)
    negatives = np.broadcast_to(np.asarray(targets.negatives), (4, 5))
    z = embed_all(MODEL, PARAMS, random_features(), random_table(), chunk=16).vectors.astype(float)
    rows = []
    for row, (query, positive) in enumerate(zip(BATCH.queries[:, 0], BATCH.positives, strict=True)):
        score = z @ z[query] / config.temperature
        total = sum(
            np.exp(score[item]) * weight
            for item, weight in [
                *((item, 1 / (5 * LAW[item - 10])) for item in negatives[row]),
                *((item, 1) for item in np.asarray(targets.hard[row])),
            ]
            if valid_by_hand(targets, row, int(item))
        )
        rows.append(np.log(1 + total / np.exp(score[positive])))
    run = jax.jit(functools.partial(one_step, config, (most_of(config),), items=items))
    np.testing.assert_allclose(run(fresh_state())[1].loss, np.mean(rows), rtol=2e-5)


def test_capacities_change_no_number():
    """Too small ones are passed over, larger ones are padding."""
    most = most_of(CONFIG)
    run = jax.jit(functools.partial(one_step, CONFIG), static_argnums=0)
    state, record = run((most,), fresh_state())
    tight = tuple(int(count) for count in np.asarray(record.counts))
    too_small = (tight[0] - 1, *tight[1:])
    for capacities, tier in (((tight, most), 0), ((too_small, most), 1)):
        other, again = run(capacities, fresh_state())
        assert int(again.tier) == tier
        np.testing.assert_allclose(again.loss, record.loss, rtol=1e-6)
        for one, two in zip(
            jax.tree.leaves(state.params), jax.tree.leaves(other.params), strict=True
        ):
            np.testing.assert_allclose(one, two, atol=1e-6)


def test_separate_negatives_are_drawn_for_each_row():
    config = dataclasses.replace(CONFIG, negative_choice="separate")
    targets = draw_targets(jax.random.key(0), BATCH, item_arrays(), jnp.int32(0), config)
    negatives = np.asarray(targets.negatives)
    assert negatives.shape == (4, 5)
    assert ((negatives >= 10) & (negatives < 30)).all()
    assert len({tuple(row) for row in negatives.tolist()}) == 4


def test_equal_negatives_shared_or_separate_give_one_loss():
    """The same items for every row, once as M shared ones, once as B × M."""
    shared = jnp.array([10, 11, 12, 13, 14], jnp.int32)
    vectors = jax.random.normal(jax.random.key(0), (ITEMS, 6))
    losses = []
    for choice, negatives in (("shared", shared), ("separate", jnp.tile(shared, (4, 1)))):
        config = dataclasses.replace(CONFIG, negative_choice=choice)
        hard = jnp.full((4, 0), -1, jnp.int32)
        targets = Targets(BATCH.queries, BATCH.positives, negatives, hard)
        losses.append(
            score_loss(jax.random.key(0), MODEL, PARAMS, vectors, targets, BATCH.weights, config)
        )
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)


def test_padding_rows_do_not_count():
    config = dataclasses.replace(CONFIG, curriculum="none")
    run = jax.jit(functools.partial(one_step, config, (most_of(config),)))
    padded = BATCH._replace(weights=jnp.array([1.0, 1.0, 0.0, 0.0]))
    changed = padded._replace(positives=jnp.array([4, 5, 30, 31], jnp.int32))
    losses = [run(fresh_state(), batch=batch)[1].loss for batch in (padded, changed)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)


def test_nothing_recompiles_as_the_curriculum_goes_on():
    optimizer = make_optimizer(CONFIG, 10)
    chunk = make_chunk(MODEL, optimizer, CONFIG, (most_of(CONFIG),))
    params = jax.tree.map(jnp.copy, PARAMS)
    state = TrainState(params, optimizer.init(params))
    batches = jax.tree.map(lambda part: jnp.stack([part, part]), BATCH)
    for epoch in range(1, 5):
        keys = jax.random.split(jax.random.key(epoch), 2)
        state, records = chunk(state, batches, keys, jnp.int32(min(epoch - 1, 2)), item_arrays())
        assert np.isfinite(records.loss).all()
    assert chunk._cache_size() == 1


@pytest.mark.parametrize(("pooling", "top"), [("importance", 20), ("mean", ITEMS)])
def test_layers_of_all_items_change_no_step(pooling, top):
    config = dataclasses.replace(
        CONFIG, pooling=pooling, drop_contexts=0.3, structure=3, hard_cap=0
    )
    model = make_model(STRUCTURED, config)
    params = init_params(jax.random.key(0), model)
    arrays = dataclasses.replace(
        item_arrays(),
        features=jax.tree.map(jnp.asarray, structured_features()),
        degree_of_none=jnp.float32(-1.0),
    )
    capacities = ((ITEMS, ITEMS, top),)
    whole = dataclasses.replace(arrays, pooling=pooling_of(arrays.table, config, capacities))
    step = functools.partial(
        train_step, model=model, optimizer=SGD, config=config, capacities=capacities
    )
    given = TrainState(params, SGD.init(params)), BATCH, jax.random.key(7), jnp.int32(0)
    (expected, searched), (found, record) = jax.jit(
        lambda: (step(*given, arrays), step(*given, whole))
    )()
    np.testing.assert_allclose(record.loss, searched.loss, rtol=1e-6)
    np.testing.assert_array_equal(record.counts[:2], [ITEMS, ITEMS])
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    hiding = dataclasses.replace(config, folds=0, mask_targets=True)
    assert pooling_of(arrays.table, hiding, capacities) is None
    assert pooling_of(arrays.table, config, ((ITEMS, 5, 2), *capacities)) is None
