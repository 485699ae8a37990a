"""Random orders: each number once, and none of what falls where tells them from uniform ones."""

import functools

import jax
import numpy as np
import pytest
import scipy.stats

from lightgcn_jax.training.shuffle import random_order
from tests.lightgcn.laws import LEVEL

# Of those that are not sorted: the least, a square, a rectangle that is full and one that is not.
SIZES = [65_537, 300**2, 300 * 299, 300 * 299 + 1]
ORDERS, SIZE = 200, 66_000

order_of = jax.jit(random_order, static_argnums=1)


@functools.cache
def orders():
    """Many orders of as many numbers, ``[orders, size]``."""
    keys = jax.random.split(jax.random.key(0), ORDERS)
    return np.asarray(jax.jit(jax.vmap(functools.partial(random_order, count=SIZE)))(keys))


def p_value(values, below):
    """Of whole numbers, whether they are uniform below a bound, in twenty bins."""
    counts = np.histogram(values, bins=20, range=(0, below))[0]
    return scipy.stats.chisquare(counts).pvalue


@pytest.mark.parametrize("count", [0, 1, 2, 1_000, 65_536, *SIZES])
def test_every_number_is_there_once(count):
    order = np.asarray(order_of(jax.random.key(1), count))
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(count))
    if count > 2:
        assert (order != order_of(jax.random.key(2), count)).any()


def test_a_key_gives_the_same_order_alone_and_under_vmap():
    keys = jax.random.split(jax.random.key(0), ORDERS)
    np.testing.assert_array_equal(orders()[7], order_of(keys[7], SIZE))


@pytest.mark.parametrize("place", [0, 1, 257, SIZE // 2, SIZE - 1])
def test_a_place_has_each_number_alike(place):
    """With those beside it: the number and its differences from two others."""
    own = orders()[:, place].astype(np.int64)
    assert p_value(own, SIZE) > LEVEL
    for away in (1, 258):
        other = orders()[:, (place + away) % SIZE]
        assert p_value((own - other) % SIZE, SIZE) > LEVEL


def test_within_an_order_neighbours_know_nothing_of_each_other():
    """Differences of what stands at places one, a row and a batch apart; numbers of one column."""
    for order in orders()[:20].astype(np.int64):
        for away in (1, 257, 258, 8_192):
            assert p_value((order[away:] - order[:-away]) % SIZE, SIZE) > LEVEL / 20
        for period in (256, 257):
            counts = np.bincount(order[: SIZE // 8] % period, minlength=period)
            assert 0.5 < counts.var() / counts.mean() / (7 / 8) < 1.6


def test_how_many_stay_and_how_many_follow_is_as_of_uniform_orders():
    """The numbers of fixed points and of pairs i, i + 1 side by side: Poisson of mean 1."""
    stay = (orders() == np.arange(SIZE)).sum(axis=1)
    follow = (np.diff(orders(), axis=1) == 1).sum(axis=1)
    law = scipy.stats.poisson(1).pmf(np.arange(4))
    for found in (stay, follow):
        counts = np.bincount(np.minimum(found, 4), minlength=5)
        expected = ORDERS * np.append(law, 1 - law.sum())
        assert scipy.stats.chisquare(counts, expected).pvalue > LEVEL
