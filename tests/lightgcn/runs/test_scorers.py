"""Ranking goes by the score that training used, for every model and every score."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.diffusion import diffusion_operator
from lightgcn_jax.runs.scorers import head_names, head_of, head_tensors, make_scorer
from lightgcn_jax.settings import TrainConfig
from lightgcn_jax.training.batch import Batch
from lightgcn_jax.training.step import Run, batch_loss, initial_params
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, random_pairs

GRAPH = graph_of(*random_pairs(0, density=0.4))
BASE = {"dim": 3, "ks": (5,), "select_by": "recall@5", "l2": 0.0}


def config_of(**settings):
    return TrainConfig(**BASE | settings)


def made(config):
    """What steps and rankings read, and parameters away from their start."""
    normalization = config.form.normalization(config)
    operator = None
    if normalization is not None:
        operator = diffusion_operator(GRAPH, normalization=normalization)
    run = Run.of(GRAPH, operator, config)
    params = initial_params(jax.random.key(1), GRAPH.num_nodes, config)
    moved = jax.tree.map(lambda leaf: leaf + 0.3 * jnp.cos(7.0 * leaf + 1.0), params)
    return run, moved


@pytest.mark.parametrize(
    "settings",
    [
        {"score": "inner"},
        {"score": "inner", "popularity_offset": 0.3},
        {"score": "cosine"},
        {"score": "cosine", "popularity_offset": 0.3},
        {"score": "mlp", "hidden": 4},
        {"model": "mf"},
        {"model": "mf", "biases": True},
        {"model": "mf", "biases": True, "popularity_offset": 0.3},
        {"model": "gcn"},
        {"model": "sgc"},
        {"model": "ngcf"},
        {"model": "ngcf", "score": "mlp", "hidden": 4},
        {"model": "gnn"},
        {"model": "gnn", "aggregate": "max"},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
@pytest.mark.parametrize("sharing", ["shared", "per-user"])
def test_the_loss_sees_the_scores_that_rank(settings, sharing):
    """Under a margin that no difference of scores reaches, the loss of a row is linear in them."""
    config = config_of(loss="max-margin", margin=100.0, negative_sharing=sharing, **settings)
    run, params = made(config)
    users, positives = jnp.array([0, 4]), jnp.array([2, 7])
    negatives = jnp.array([1, 5, 8]) if sharing == "shared" else jnp.array([[1, 5, 8], [0, 3, 3]])
    batch = Batch(users, positives, negatives, jnp.ones((2, 3), bool), jnp.ones(2))
    loss = batch_loss(params, batch, run, config)[1].ranking
    scores = np.asarray(make_scorer(params, run, config).scores(users))
    items = np.broadcast_to(negatives, (2, 3))
    expected = [
        np.mean(scores[items[row], row] - scores[positives[row], row]) + 100 for row in (0, 1)
    ]
    np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-5)


def test_the_popularity_offset_is_gamma_times_the_log_of_one_more_than_the_users():
    plain, offset = config_of(), config_of(popularity_offset=0.25)
    run, params = made(plain)
    with_offset = Run.of(GRAPH, run.operator, offset)
    difference = make_scorer(params, with_offset, offset).scores(
        jnp.arange(NUM_USERS)
    ) - make_scorer(params, run, plain).scores(jnp.arange(NUM_USERS))
    degrees = np.asarray(GRAPH.users_of_item.lengths(), np.float64)
    expected = np.broadcast_to(0.25 * np.log(1 + degrees)[:, None], (NUM_ITEMS, NUM_USERS))
    np.testing.assert_allclose(difference, expected, atol=1e-6)
    assert (plain.offset_columns, offset.offset_columns) == (0, 1)
    assert config_of(model="mf", biases=True, popularity_offset=0.25).offset_columns == 3


def test_cosines_are_cosines():
    config = config_of(score="cosine")
    run, params = made(config)
    scores = make_scorer(params, run, config).scores(jnp.arange(NUM_USERS))
    plain = dataclasses.replace(config, score="inner")
    users, items = make_scorer(params, run, plain).embeddings()
    lengths = np.linalg.norm(items, axis=1)[:, None] * np.linalg.norm(users, axis=1)[None]
    np.testing.assert_allclose(scores, np.asarray(items @ users.T) / lengths, rtol=1e-5)


def test_the_network_comes_back_from_its_tensors():
    config = config_of(score="mlp", hidden=4)
    run, params = made(config)
    scorer = make_scorer(params, run, config)
    tensors = head_tensors(scorer)
    assert tensors.keys() == head_names(config)
    jax.tree.map(np.testing.assert_array_equal, head_of(tensors), scorer.head)
    assert head_names(config_of()) == frozenset()
    assert head_of({}) is None
