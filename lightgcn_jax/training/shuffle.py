"""Random orders of many things, without sorting."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Ids, PRNGKey

# Up to here numbers are sorted by random keys, and all orders are equally likely. A network of
# rounds is as good only where there are many numbers.
_FEW = 1 << 16
_ROUNDS = 8
# Odd factors and shifts of a hash whose every bit depends on all bits of what it is given.
_FACTORS, _SHIFTS = (0x7FEB352D, 0x846CA68B), (16, 15, 16)


def random_order(key: PRNGKey, count: int) -> Ids:
    """The numbers 0 … count − 1 in a random order, ``int32[count]``.

    More than 65,536 go through a Feistel network: a number is a place in a rectangle of at least
    that many, and each round moves its row, or column, by a hash of the other and a random number.
    Every round can be undone, so no two numbers meet. What falls outside goes through it again.
    That is O(count), where sorting a million takes half a second on a CPU. Not every order can
    come of it, but its orders look uniform: in where numbers fall, in pairs, and in neighbours.

    Args:
        key: randomness of the order.
        count: below 2^31.

    References:
        Luby and Rackoff 1988; Black and Rogaway 2002 (rectangles, and going through again);
        Mitchell et al. 2022, "Bandwidth-optimal random shuffling for GPUs". The hash is Wellons'
        ``lowbias32`` (2018).
    """
    if count <= _FEW:
        return jax.random.permutation(key, count).astype(jnp.int32)
    rows = math.isqrt(count - 1) + 1
    columns = -(-count // rows)
    keys = jax.random.bits(key, (_ROUNDS,), jnp.uint32)

    def place(row: Array, column: Array) -> Array:
        return row * columns + column

    def moved(row: Array, column: Array) -> tuple[Array, Array]:
        for number in range(_ROUNDS):
            if number % 2:
                column = _turned(column, row, keys[number], columns)
            else:
                row = _turned(row, column, keys[number], rows)
        return row, column

    def again(at: tuple[Array, Array]) -> tuple[Array, Array]:
        outside = place(*at) >= count
        return jax.tree.map(lambda new, old: jnp.where(outside, new, old), moved(*at), at)

    numbers = jnp.arange(count, dtype=jnp.uint32)
    at = moved(numbers // columns, numbers % columns)
    at = jax.lax.while_loop(lambda at: (place(*at) >= count).any(), again, at)
    return place(*at).astype(jnp.int32)


def _turned(values: Array, by: Array, key: Array, size: int) -> Array:
    """Values below the size plus a hash of others, modulo the size."""
    mixed = by ^ key
    for shift, factor in zip(_SHIFTS, (*_FACTORS, None), strict=True):
        mixed = mixed ^ (mixed >> shift)
        mixed = mixed if factor is None else mixed * jnp.uint32(factor)
    # The upper half of the hash as a share of the size, which is below 2^16.
    turned = values + (((mixed >> 16) * size) >> 16)
    return jnp.where(turned < size, turned, turned - size)
