"""Items sampled from a band of ranks, between the related and the unrelated."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import Array, Float, Ids, Int, Mask, PRNGKey
from lightgcn_jax.errors import InputError
from pinsage_jax.graph.hashing import hashed

Band = tuple[int, int]

BAND: Band = (2000, 5000)
"""PinSAGE's ranks: the first, counted from 0, and the one after the last."""
_SHORTEST_END = 50


def scaled_band(band: Band, num_items: int) -> Band:
    """Scale a band to a catalogue whose first tenth it leaves.

    The paper's band belongs to a catalogue far larger than its end: it holds related items near the
    head. Where the end lies past a tenth of the catalogue, both ranks are scaled so that the end is
    a tenth; in the smallest catalogues it is 50, or all other items.

    Args:
        band: [first, end).
        num_items: I, at least 2.

    Raises:
        InputError: the band is empty, or there is no other item.
    """
    first, end = band
    if not 0 <= first < end:
        raise InputError(f"band: expected ranks 0 <= first < end, got {first} and {end}")
    if num_items < 2:
        raise InputError(f"num_items: hard negatives need 2 items or more, got {num_items}")
    if end <= num_items // 10:
        return band
    scaled = min(end, max(num_items // 10, _SHORTEST_END), num_items - 1)
    return first * scaled // end, scaled


def chosen_band(band: Band | None, num_items: int) -> Band:
    """Check a band that was asked for, or scale the paper's.

    Args:
        band: [first, end), or None.
        num_items: I.

    Raises:
        InputError: the band is empty or reaches past the catalogue's other items.
    """
    scaled = scaled_band(BAND if band is None else band, num_items)
    if band is None:
        return scaled
    if band[1] > num_items - 1:
        raise InputError(
            f"band: expected ranks up to the {num_items - 1:,} other items of the catalogue, "
            f"got {band[0]:,} to {band[1]:,}"
        )
    return band


@functools.partial(jax.jit, static_argnames=("band", "count"))
def pick_from_band(
    key: PRNGKey,
    scores: Float[Array, "queries items"],
    forbidden: Mask,
    queries: Ids,
    band: Band,
    count: int,
) -> tuple[Int[Array, "queries count"], Ids]:
    """Sample items of each query's band without repetition.

    What is drawn for a query depends on the key and its row, not on the other queries.

    Args:
        key: consumed.
        scores: ``float[n, R]``, at least 0; items with 0 have no rank.
        forbidden: ``bool[n, R]``, items that keep their rank but are not picked.
        queries: ``int32[n]``, the query's own item, which has no rank.
        band: [first, end), its end below R; static.
        count: how many items are picked, at most the length of the band; static.

    Returns:
        ``int32[n, min(count, length of the band)]``, −1 at the end of a row that has fewer; and
        ``int32[n]``, how many of them have the score of the last item before the band or of the
        first after it.
    """
    first, end = band
    item_key, order_key, query_key = jax.random.split(key, 3)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(query_key, queries)
    hash_keys, luck_keys, turn_keys = jnp.moveaxis(jax.vmap(_three_keys)(keys), 1, 0)
    luck = jax.vmap(lambda key: jax.random.uniform(key, (end - first,)))(luck_keys)
    ranked = jnp.where(scores > 0, _with_ties_broken(item_key, hash_keys, scores), 0)
    ranked = jnp.where(jnp.arange(scores.shape[1])[None, :] == queries[:, None], -1, ranked)
    order = _orders(order_key, turn_keys, scores.shape[1])
    ranked = jnp.take_along_axis(ranked, order, axis=1)
    # One rank more, to see whether the band's edge cuts through equals. The barrier keeps XLA from
    # merging the slices below into the selection, which on CPU would become a full sort with a
    # comparator: seven times slower.
    values, ids = jax.lax.optimization_barrier(jax.lax.top_k(ranked, end + 1))
    levels = _level(values)
    equal = levels == levels[:, end, None]
    if first:
        equal |= levels == levels[:, first - 1, None]
    ids = jnp.take_along_axis(order, ids, axis=1)
    values, ids, equal = (array[:, first:end] for array in (values, ids, equal))
    allowed = (values > 0) & ~jnp.take_along_axis(forbidden, ids, axis=1)
    places = jnp.where(allowed, jnp.arange(end - first)[None, :], -1)
    places = sample_rows(luck, places, min(count, end - first))
    there, places = places >= 0, jnp.maximum(places, 0)
    ids, equal = (jnp.take_along_axis(array, places, axis=1) for array in (ids, equal))
    return jnp.where(there, ids, -1), (there & equal).sum(axis=1)


def sample_rows(luck: Array, ids: Int[Array, "rows n"], count: int) -> Int[Array, "rows count"]:
    """Sample entries of each row that are not −1, without replacement and in random order.

    Args:
        luck: ``float[rows, n]``, independent and uniform on [0, 1).
        ids: ``int32[rows, n]``, −1 pads.
        count: how many entries are sampled, at most n; static.

    Returns:
        ``int32[rows, count]``, −1 at the end of a row that has fewer.
    """
    luck, places = jax.lax.top_k(jnp.where(ids >= 0, luck, -1), count)
    return jnp.where(luck >= 0, jnp.take_along_axis(ids, places, axis=1), -1)


def _with_ties_broken(
    item_key: PRNGKey, query_keys: PRNGKey, scores: Float[Array, "queries items"]
) -> Float[Array, "queries items"]:
    """Scores whose last 8 bits are a hash of item and query.

    Positive floats are ordered as their bits are. So scores that agree to 2⁻¹⁵ count as equal, for
    instance sums that differ by rounding, and the hash orders them. Two of them share it with a
    probability of 1/256.
    """
    of_items = jax.random.bits(item_key, scores.shape[1:], jnp.uint32)
    of_queries = jax.vmap(lambda key: jax.random.bits(key, (), jnp.uint32))(query_keys)
    hashes = hashed(of_items[None, :] ^ of_queries[:, None]) >> 24
    bits = jax.lax.bitcast_convert_type(scores, jnp.uint32) & ~jnp.uint32(0xFF)
    return jax.lax.bitcast_convert_type(bits | hashes, jnp.float32)


def _three_keys(key: PRNGKey) -> PRNGKey:
    return jax.random.split(key, 3)


def _orders(key: PRNGKey, turn_keys: PRNGKey, num_items: int) -> Int[Array, "queries items"]:
    """An order of all items for each query, which decides among items that share their hash.

    A selection prefers the items that stand first. One random order, begun at another random place
    for each query, favours no item and no row.
    """
    order = jax.random.permutation(key, num_items)
    turns = jax.vmap(lambda key: jax.random.randint(key, (), 0, num_items))(turn_keys)
    return order[(jnp.arange(num_items)[None, :] + turns[:, None]) % num_items]


def _level(ranked: Array) -> Array:
    """The part of a score that is compared: all bits but the hash."""
    return jax.lax.bitcast_convert_type(ranked, jnp.uint32) >> 8
