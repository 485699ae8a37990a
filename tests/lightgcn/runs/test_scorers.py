"""Ranking goes by the score that training used, for every model and every score."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.models import Cosine, Inner, Score
from lightgcn_jax.runs.scorers import (
    from_tensors,
    head_shapes,
    make_scorer,
    tensor_names,
    tensors_of,
)
from lightgcn_jax.settings import from_flat
from lightgcn_jax.training import Batch, MaxMargin, StepInputs, batch_loss, initial_params
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, random_pairs

GRAPH = graph_of(*random_pairs(0, density=0.4))
BASE = {"dim": 3, "ks": (5,), "l2": 0.0}


def config_of(**settings):
    return from_flat(BASE | settings)


def made(strategies):
    """What steps and rankings read, and parameters away from their start."""
    inputs = StepInputs.of(GRAPH, strategies)
    params = initial_params(jax.random.key(1), GRAPH.num_nodes, strategies)
    moved = jax.tree.map(lambda leaf: leaf + 0.3 * jnp.cos(7.0 * leaf + 1.0), params)
    return inputs, moved


@dataclasses.dataclass(frozen=True)
class Distance(Score):
    """−‖w ∘ (u − i)‖², with a learnt w: a score of one's own, whose head is a plain array."""

    popularity_offset: float = 0.0

    def init(self, key, width):
        del key
        return jnp.linspace(0.5, 1.5, width)

    def __call__(self, head, users, items):
        items = items if items.ndim == 3 else items[None]
        return -jnp.square(head[None, None] * (users[:, None] - items)).sum(-1)


USERS, POSITIVES = jnp.array([0, 4]), jnp.array([2, 7])
NEGATIVES = {
    "shared": jnp.array([1, 5, 8]),
    "per-user": jnp.array([[1, 5, 8], [0, 3, 3]]),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"score": "inner", "popularity_offset": 0.3},
        {"score": "cosine", "popularity_offset": 0.3},
        {"score": "mlp", "hidden": 4},
        {"score": Distance(popularity_offset=0.3)},
        {"model": "mf", "biases": True},
        {"model": "mf", "biases": True, "popularity_offset": 0.3},
        {"model": "ngcf", "score": "mlp", "hidden": 4},
        {"model": "gnn", "aggregate": "max"},
        # What is left out of those, and what lies between models.
        *(
            pytest.param(settings, marks=pytest.mark.slow)
            for settings in (
                {"score": "inner"},
                {"score": "cosine"},
                {"score": Distance()},
                {"model": "mf"},
                {"model": "gcn"},
                {"model": "sgc"},
                {"model": "ngcf"},
                {"model": "gnn"},
            )
        ),
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_the_loss_sees_the_scores_that_rank(settings):
    """Under a margin that no difference of scores reaches, the loss of a row is linear in them."""
    own = {name: value for name, value in settings.items() if isinstance(value, Score)}
    config = config_of(**{name: value for name, value in settings.items() if name not in own})
    strategies = dataclasses.replace(config.strategies, loss=MaxMargin(margin=100.0), **own)
    inputs, params = made(strategies)

    @jax.jit
    def losses_and_scores(params, inputs):
        valid, weights = jnp.ones((2, 3), bool), jnp.ones(2)
        losses = [
            batch_loss(
                params, Batch(USERS, POSITIVES, negatives, valid, weights), inputs, strategies
            )[1].ranking
            for negatives in NEGATIVES.values()
        ]
        return losses, make_scorer(params, inputs, strategies).scores(USERS)

    losses, scores = losses_and_scores(params, inputs)
    for loss, negatives in zip(losses, NEGATIVES.values(), strict=True):
        items = np.broadcast_to(negatives, (2, 3))
        expected = [
            np.mean(scores[items[row], row] - scores[POSITIVES[row], row]) + 100 for row in (0, 1)
        ]
        np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-5)


def scores_of(score, config=None):
    strategies = dataclasses.replace((config or config_of()).strategies, score=score)
    inputs, params = made(strategies)
    return make_scorer(params, inputs, strategies)


@pytest.mark.parametrize("score", [Inner, Distance])
def test_the_popularity_offset_is_gamma_times_the_log_of_one_more_than_the_users(score):
    plain, offset = (
        scores_of(score(popularity_offset=gamma)).scores(jnp.arange(NUM_USERS))
        for gamma in (0.0, 0.25)
    )
    degrees = np.asarray(GRAPH.users_of_item.lengths(), np.float64)
    expected = np.broadcast_to(0.25 * np.log(1 + degrees)[:, None], (NUM_ITEMS, NUM_USERS))
    np.testing.assert_allclose(offset - plain, expected, atol=1e-6)


def test_offsets_stand_in_last_columns():
    assert config_of().offset_columns == 0
    assert config_of(popularity_offset=0.25).offset_columns == 1
    assert config_of(model="mf", biases=True, popularity_offset=0.25).offset_columns == 3
    own = dataclasses.replace(config_of(), score=Distance(popularity_offset=0.25))
    assert own.offset_columns == 1


def test_cosines_are_cosines():
    scores = scores_of(Cosine()).scores(jnp.arange(NUM_USERS))
    users, items = scores_of(Inner()).embeddings()
    lengths = np.linalg.norm(items, axis=1)[:, None] * np.linalg.norm(users, axis=1)[None]
    np.testing.assert_allclose(scores, np.asarray(items @ users.T) / lengths, rtol=1e-5)


@pytest.mark.parametrize(
    ("score", "names"),
    [
        (config_of(score="mlp", hidden=4).score, {"params/of_user/kernel", "params/output/bias"}),
        (Distance(), {"head"}),
    ],
)
def test_what_a_score_learnt_comes_back_from_its_tensors(score, names):
    scorer = scores_of(score)
    tensors, shapes = tensors_of(scorer.head), head_shapes(score, width=3)
    assert names <= tensors.keys()
    assert list(tensors) == tensor_names(shapes)
    jax.tree.map(np.testing.assert_array_equal, from_tensors(shapes, tensors), scorer.head)


def test_a_score_that_learns_nothing_has_no_tensors():
    assert tensor_names(head_shapes(Inner(), width=3)) == []
    assert tensors_of(None) == {}
    assert from_tensors(None, {}) is None
