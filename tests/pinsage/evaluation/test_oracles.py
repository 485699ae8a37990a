"""The oracles' scores against the law of the world, summed over its cells one by one."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from pinsage_jax.data.world import PinWorld, generate_pins
from pinsage_jax.evaluation.baselines import evaluate_baseline, evaluate_scores
from pinsage_jax.evaluation.oracles import oracle
from pinsage_jax.tasks.holdout import cooccurrence_task

WORLD = PinWorld(items=300, boards=100, mean_board_size=12, looks=3, uses=3, styles=3)
PINS = generate_pins(WORLD, seed=2)
TASK = cooccurrence_task(PINS.data)


def law(pins, known):
    """P(p | q), ``float64[q, p]``: a board of each founder in turn."""
    config, w = pins.config, pins.popularity
    look, use, style = (pins.data.labels[name] for name in ("look", "use", "style"))
    style = style if known == "all" else np.zeros_like(style)
    related = (use[:, None] == use[None]) & (style[:, None] == style[None])
    cell = related & (look[:, None] == look[None])
    a, b = config.graph_signal * config.board_purity, config.graph_signal * config.related_share
    draws = a * cell * w / (cell @ w)[:, None] + b * related * w / (related @ w)[:, None]
    draws += (1 - a - b) * w / w.sum()
    np.testing.assert_allclose(draws.sum(axis=1), 1)
    both = draws.T @ draws
    return both / both.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("known", ["topic", "all"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"graph_signal": 0.0}, {"graph_signal": 1.0, "related_share": 0.3}, {"styles": 1}],
    ids=["default", "noise", "clear", "one style"],
)
def test_scores_are_the_law_summed_over_founders(known, changes):
    pins = generate_pins(dataclasses.replace(WORLD, **changes), seed=2)
    scorer = oracle(pins, TASK.test, known)
    found = np.asarray(scorer.scores(jnp.arange(scorer.num_queries))).T
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found, law(pins, known)[TASK.test.queries[:, 0]], rtol=1e-5)


def test_two_pins_by_hand():
    """One cell: a draw is each pin by its popularity, 1 and 2^-0.6, whatever the query."""
    pins = generate_pins(PinWorld(items=2, boards=1, looks=1, uses=1, styles=1))
    held_out = TASK.test._replace(queries=np.array([[0], [1]], np.int32))
    scores = np.asarray(oracle(pins, held_out).scores(jnp.arange(2)))
    other = 2**-0.6
    shares = np.sort([1 / (1 + other), other / (1 + other)])
    np.testing.assert_allclose(np.sort(scores, axis=0), np.stack([shares, shares], axis=1))


def test_topics_say_what_all_factors_say_in_the_mean_over_styles():
    """Cells are large and alike here, so each has about its share of the topic's popularity."""
    config = PinWorld(items=400, looks=2, uses=2, styles=2, popularity_exponent=0.2)
    pins, total = generate_pins(config), np.zeros((400, 400))
    labels = pins.data.labels
    for seed in range(100):
        styles = np.random.default_rng(seed).integers(0, 2, 400, np.int32)
        data = dataclasses.replace(pins.data, labels={**labels, "style": styles})
        total += law(dataclasses.replace(pins, data=data), "all") / 100
    topics = law(pins, "topic")
    use, look = (labels[name][:, None] == labels[name][None] for name in ("use", "look"))
    apart = ~np.eye(400, dtype=bool)  # a pin has its own style
    for kind in (use & look & apart, use & ~look, ~use):
        assert total[kind].mean() == pytest.approx(topics[kind].mean(), rel=0.03)


def test_who_knows_more_finds_more():
    parts = [
        evaluate_scores(TASK, lambda _, held: oracle(PINS, held, "all")),
        evaluate_scores(TASK, lambda _, held: oracle(PINS, held, "topic")),
        evaluate_baseline(TASK, "popularity"),
    ]
    for part in ("valid", "test", "fresh"):
        for name in ("hit_rate@10", "mrr"):
            first, second, third = (one[part][name] for one in parts)
            assert first > second > third


def test_queries_of_several_items_are_refused():
    several = TASK.test._replace(queries=np.zeros((2, 3), np.int32))
    with pytest.raises(InputError, match="expected queries of one item, got up to 3"):
        oracle(PINS, several)
