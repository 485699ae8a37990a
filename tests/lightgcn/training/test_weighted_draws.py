import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.training import weighted_draws as item_weights
from tests.lightgcn.laws import DEGREES, GRAPH, LEVEL, chi_square, counts_of
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, random_pairs

at_marks = jax.jit(item_weights.unseen_at)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.75, 1.0])
def test_weights_are_powers_of_degrees_to_within_half_a_unit(beta):
    weights = np.asarray(item_weights.item_weights(GRAPH, beta).weights, np.float64)
    powers = DEGREES.astype(float) ** beta
    # The scale, from an item with one user: its weight is the scale itself.
    scale = weights[DEGREES == 1][0]
    expected = np.where(powers == 0, 1, scale * powers)
    assert np.abs(weights - expected).max() <= (0 if beta in (0.0, 1.0) else 0.5)
    assert 2**30 < weights.sum() < 2**31


def test_coarse_weights_round_and_never_vanish(monkeypatch):
    monkeypatch.setattr(item_weights, "_LARGEST_TOTAL", 50)
    weights = np.asarray(item_weights.item_weights(GRAPH, 0.5).weights)
    scale = (50 - NUM_ITEMS) // np.sqrt(DEGREES).sum()
    assert weights.tolist() == np.maximum(1, np.rint(scale * np.sqrt(DEGREES))).tolist()
    assert weights[DEGREES.argmin()] == 1


def test_too_little_room_makes_weights_coarse_and_never_overflows(monkeypatch):
    monkeypatch.setattr(item_weights, "_LARGEST_TOTAL", 40)
    weights = np.asarray(item_weights.item_weights(GRAPH, 2.0).weights)
    squares = DEGREES**2.0
    scale = (40 - NUM_ITEMS) / squares.sum()
    assert weights.tolist() == np.maximum(1, np.rint(scale * squares)).tolist()
    assert NUM_ITEMS < weights.sum() <= 40


@pytest.mark.parametrize("beta", [-0.1, float("nan"), 1e4])
def test_powers_without_weights_are_refused(beta):
    with pytest.raises(InputError, match="beta: expected a power of"):
        item_weights.item_weights(GRAPH, beta)


@pytest.mark.parametrize("seed", range(5))
def test_every_mark_finds_its_item(seed, monkeypatch):
    """All marks of all users give each unseen item as often as it weighs, and no seen one."""
    monkeypatch.setattr(item_weights, "_LARGEST_TOTAL", 80)
    users, items = random_pairs(seed, density=0.5)
    graph = graph_of(users, items)
    weights = item_weights.item_weights(graph, 0.75)
    each = np.asarray(weights.weights)
    unseen = np.ones((NUM_USERS, NUM_ITEMS), bool)
    unseen[users, items] = False
    marks = jnp.arange(80, dtype=jnp.int32)[None, :]
    found = np.asarray(at_marks(graph, weights, jnp.arange(NUM_USERS)[:, None], marks))
    for user in range(NUM_USERS):
        total = each[unseen[user]].sum()
        assert counts_of(found[user, :total]).tolist() == (each * unseen[user]).tolist()


def test_running_weights_may_wrap_between_rows():
    """A hundred users with most of the weight each: the sums over interactions pass 2³¹."""
    users, items = np.divmod(np.arange(100 * 8), 8)
    graph = graph_of(users, items, num_users=100)
    weights = item_weights.item_weights(graph, 1.0)
    assert (np.diff(np.asarray(weights.before_edge, np.int64)) < 0).any()
    item = at_marks(graph, weights, np.arange(100), np.zeros(100, np.int32))
    assert (np.asarray(item) == 8).all()


def test_integers_are_uniform_below_a_bound_that_does_not_divide_32_bits():
    bound, draws = 3 * 2**29, 300_000
    drawn = item_weights._integers_below(jax.random.key(0), jnp.int32(bound), (draws,))
    assert chi_square(np.bincount(np.asarray(drawn) // 2**27, minlength=12), np.ones(12)) > LEVEL


@pytest.mark.parametrize(
    ("bits", "bound"),
    [
        (bits, bound)
        for bits in (0, 1, 2**32, 2**64 - 1, 0x9E3779B97F4A7C15, 0x00000001FFFFFFFF)
        for bound in (1, 2, 7, 3 * 2**29, 2**31 - 1)
    ],
)
def test_integers_are_the_upper_half_of_a_128_bit_product(bits, bound, monkeypatch):
    words = jnp.array([[bits >> 32], [bits & 0xFFFFFFFF]], jnp.uint32)
    monkeypatch.setattr(jax.random, "bits", lambda *_: words)
    drawn = item_weights._integers_below(jax.random.key(0), jnp.int32(bound), (1,))
    assert drawn.tolist() == [bits * bound >> 64]
