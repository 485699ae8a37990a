import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import BipartiteGraph
from lightgcn_jax.training.weighted_draws import item_weights
from pinsage_jax.negatives.shared import (
    draw_shared_negatives,
    eligible_weights,
    hard_valid,
    shared_valid,
)
from tests.lightgcn.laws import LEVEL, chi_square

draw = jax.jit(draw_shared_negatives, static_argnums=(1,), static_argnames="items")

# Item i is in DEGREES[i] contexts; nobody has item 2.
DEGREES = np.array([1, 4, 0, 2, 3])
GRAPH = BipartiteGraph.from_pairs(
    np.concatenate([np.arange(degree) for degree in DEGREES]),
    np.repeat(np.arange(5), DEGREES),
    num_users=4,
    num_items=5,
)
DRAWS = 40_000


def counts_of(items):
    return np.bincount(np.asarray(items), minlength=5)


def test_uniform_draws_take_every_item_alike():
    items = draw(jax.random.key(0), DRAWS, items=5)
    assert items.dtype == jnp.int32
    assert chi_square(counts_of(items), np.ones(5)) > LEVEL


def test_draws_stay_within_the_eligible():
    eligible = jnp.array([4, 0, 3], jnp.int32)
    items = draw(jax.random.key(1), DRAWS, eligible)
    assert chi_square(counts_of(items), [1, 0, 0, 1, 1]) > LEVEL


def test_draws_by_degree():
    weights = item_weights(GRAPH, 1.0)
    items = draw(jax.random.key(2), DRAWS, items=5, weights=weights)
    assert chi_square(counts_of(items), DEGREES) > LEVEL


def test_draws_by_degree_from_the_eligible():
    eligible = np.array([4, 2, 0, 3])
    weights = eligible_weights(item_weights(GRAPH, 1.0), eligible)
    items = draw(jax.random.key(3), DRAWS, jnp.asarray(eligible), weights)
    assert chi_square(counts_of(items), [1, 0, 0, 2, 3]) > LEVEL


def test_what_is_not_eligible_has_no_weight_at_all():
    weights = eligible_weights(item_weights(GRAPH, 0.5), np.array([1, 3]))
    all_weights = item_weights(GRAPH, 0.5).weights
    assert weights.weights.tolist() == [int(all_weights[1]), int(all_weights[3])]
    assert int(weights.cumulative[-1]) == int(all_weights[1]) + int(all_weights[3])


def test_weights_must_belong_to_the_eligible():
    weights = item_weights(GRAPH, 1.0)
    with pytest.raises(InputError, match=r"weights: expected those of the 2 items .* got 5"):
        draw_shared_negatives(jax.random.key(0), 3, jnp.array([0, 1]), weights)
    for rows, found in (([5], "5 to 5"), ([-1, 2], "-1 to 2"), ([], "none")):
        with pytest.raises(InputError, match=rf"eligible: .*\[0, 5\), got {found}"):
            eligible_weights(weights, np.array(rows, int))


def test_shared_negatives_leave_out_the_pair_of_each_row():
    queries = jnp.array([[0, 1], [2, -1], [-1, -1]])
    positives = jnp.array([3, 4, 0])
    valid = shared_valid(queries, positives, jnp.array([0, 1, 2, 3, 4, 3]))
    assert valid.astype(int).tolist() == [
        [0, 0, 1, 0, 1, 0],
        [1, 1, 0, 1, 0, 1],
        [0, 1, 1, 1, 1, 1],
    ]


def test_own_negatives_leave_out_padding_and_the_pair():
    queries = jnp.array([[0, 1], [2, -1]])
    valid = hard_valid(queries, jnp.array([3, 4]), jnp.array([[0, 2, 3, -1], [2, 0, 4, 3]]))
    assert valid.astype(int).tolist() == [[0, 1, 0, 0], [0, 1, 0, 1]]
    assert hard_valid(queries, jnp.array([3, 4]), jnp.zeros((2, 0), jnp.int32)).shape == (2, 0)
