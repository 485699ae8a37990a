"""Hashes give their ids back, and favour none of them."""

import jax.numpy as jnp
import numpy as np

from pinsage_jax.graph.hashing import hashed, salts, scrambled, unscrambled
from tests.lightgcn.laws import LEVEL, chi_square


def test_what_was_scrambled_comes_back():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 2**31, 10_000).astype(np.uint32)
    ids[:3] = 0, 1, 2**31 - 1
    salt = salts(rng.integers(0, 2**32, 10_000).astype(np.uint32))
    words = scrambled(ids, salt)
    assert words.dtype == np.uint32
    assert max(words.max(), salt.max()) < 2**31
    np.testing.assert_array_equal(unscrambled(words, salt), ids)
    # The device and the host agree.
    np.testing.assert_array_equal(scrambled(jnp.asarray(ids), jnp.asarray(salt)), words)
    np.testing.assert_array_equal(unscrambled(jnp.asarray(words), jnp.asarray(salt)), ids)
    np.testing.assert_array_equal(hashed(jnp.asarray(ids)), hashed(ids))


def test_neighbouring_ids_come_in_any_order():
    """Every order of five ids in a row is as likely as any other, over salts in a row."""
    ids = np.arange(1_000, 1_005, dtype=np.uint32)
    salt = salts(np.arange(30_000, dtype=np.uint32))
    orders = np.argsort(scrambled(ids[None, :], salt[:, None]), axis=1)
    _, counts = np.unique(orders @ 5 ** np.arange(5), return_counts=True)
    assert len(counts) == 120
    assert chi_square(counts, np.ones(120)) > LEVEL
