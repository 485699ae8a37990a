"""What a step is made of: which values fit together, and what the step costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.models import MF, MLP, Cosine, LightGCN
from lightgcn_jax.training import (
    AllItems,
    HardNegatives,
    InBatchNegatives,
    Optimization,
    PerUserNegatives,
    Softmax,
    StepInputs,
    Strategies,
    TracedSettings,
)
from lightgcn_jax.training.samplers import FunctionSampler
from lightgcn_jax.training.strategies import StepCost
from tests.lightgcn.steps import GRAPH, STRATEGIES, changed, draw
from tests.lightgcn.worlds import NUM_USERS

CORRECTED = Softmax(sampling_correction=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": LightGCN}, "model: expected an instance of Model, got <class"),
        ({"model": "lightgcn"}, "model: expected an instance of Model, got 'lightgcn'"),
        ({"score": "cosine"}, "score: expected an instance of Score, got 'cosine'"),
        ({"loss": "bpr"}, "loss: expected a function of positive, negatives and valid, got 'bpr'"),
        ({"negatives": 256}, "negatives: expected a sampler .* or a function, got 256"),
        ({"optimization": {}}, "optimization: expected an instance of Optimization, got {}"),
        (
            {"loss": CORRECTED, "negatives": HardNegatives()},
            "sampling_correction: expected a sampler whose probabilities are known",
        ),
        (
            {
                "loss": CORRECTED,
                "negatives": InBatchNegatives(),
                "optimization": Optimization(sampling="users"),
            },
            "sampling_correction: expected the sampling of interactions beside in-batch",
        ),
        (
            {"model": MF(biases=True), "score": Cosine()},
            r"biases: expected the score inner, which adds them, got Cosine\(",
        ),
        (
            {"optimization": Optimization(lazy_adam=True)},
            "lazy_adam: expected mf, .* got LightGCN, whose scores read rows of other nodes too",
        ),
        (
            {"model": MF(), "optimization": Optimization(lazy_adam=True, accumulate=2)},
            "accumulate: expected 1 beside lazy_adam, .* rows of one mini-batch, got 2",
        ),
    ],
)
def test_strategies_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Strategies(**{"model": LightGCN()} | fields)


def test_equal_strategies_are_one_static_argument():
    assert hash(changed()) == hash(STRATEGIES)
    assert changed() == STRATEGIES
    assert changed(optimization={"l2": 0.2}) != STRATEGIES

    def own(*_):
        return None

    sampler = Strategies(LightGCN(), negatives=own).sampler
    assert sampler == FunctionSampler(own)
    assert Strategies(LightGCN(), negatives=own) == Strategies(LightGCN(), negatives=sampler)


def test_traced_settings_are_those_of_each_run():
    found = TracedSettings.stacked([STRATEGIES, changed(loss=Softmax(0.5), optimization={"l2": 0})])
    np.testing.assert_allclose(found.l2, [0.1, 0])
    np.testing.assert_allclose(found.temperature, [1, 0.5])
    np.testing.assert_allclose(found.margin, [0, 0])
    assert jax.tree.map(jnp.shape, found) == TracedSettings((2,), (2,), (2,), (2,))


@pytest.mark.parametrize(
    "strategies",
    [
        STRATEGIES,
        changed(optimization={"sampling": "users"}),
        changed(negatives=PerUserNegatives(4)),
    ],
    ids=["interactions", "users", "own negatives"],
)
def test_expected_entries_are_the_mean_of_what_batches_hold(strategies):
    inputs = StepInputs.of(GRAPH, strategies, backend="csr")
    shuffle = jnp.arange(GRAPH.num_edges, dtype=jnp.int32)
    size = strategies.optimization.batch_size

    @jax.jit
    @jax.vmap
    def held(index):
        step = (index % (GRAPH.num_edges // size)).astype(jnp.int32)
        batch = draw(jax.random.key(index), inputs, shuffle, step, strategies=strategies)
        return inputs.operator.storage.row_lengths(batch.nodes(NUM_USERS)).sum()

    # Exact but for the last interactions of the epoch and, in the scheme of users, for positives
    # that follow their users' degrees.
    mean = np.mean(held(jnp.arange(200)))
    assert mean == pytest.approx(StepCost.of(GRAPH, strategies).entries, rel=0.1)


@pytest.mark.parametrize(
    ("strategies", "per_row", "vectors"),
    [
        (STRATEGIES, 4, 10 + 4),
        (changed(negatives=PerUserNegatives(4)), 4, 10 + 20),
        (changed(negatives=InBatchNegatives()), 5, 10 + 5),
        (changed(negatives=HardNegatives(2, hard_pool=8)), 8, 10 + 8),
        (changed(negatives=AllItems()), GRAPH.num_items, 10 + GRAPH.num_items),
        (changed(model=MF(3), score=MLP()), 4, 10 + 4),
    ],
)
def test_a_run_holds_its_tables_and_the_vectors_and_scores_of_a_batch(strategies, per_row, vectors):
    layers, width, size = strategies.model.layers, 3, 5
    tables = (9 + 2 * layers) * GRAPH.num_nodes * width
    batch = 3 * size * per_row + 3 * vectors * width
    cost = StepCost.of(GRAPH, strategies)
    assert cost.held_bytes == 4 * (tables + batch + GRAPH.num_edges)
    moved = 4 * layers * GRAPH.num_edges + 12 * GRAPH.num_nodes
    assert cost.moved_bytes == 4 * moved * width


def test_lazy_adam_holds_gradients_and_new_versions_of_the_rows_of_a_batch():
    """Of two users, two positives and four negatives."""
    strategies = changed(model=MF(3), optimization={"batch_size": 2, "lazy_adam": True})
    dense = changed(strategies, optimization={"lazy_adam": False})
    lazy, other = (StepCost.of(GRAPH, one) for one in (strategies, dense))
    rest = GRAPH.num_nodes - (2 * 2 + 4)
    assert other.held_bytes - lazy.held_bytes == 4 * 4 * rest * 3
    assert other.least_bytes - lazy.least_bytes == 4 * rest * 3
