"""An order of users and items that depends on who met what, never on names or rows.

Whatever is settled by an order of rows (ties of scores, random draws, initial vectors) must not
hang on how ids are spelled or on how a file is sorted. Here a node's hash is made of its edges, of
its neighbours' edges and so on (colour refinement, Weisfeiler and Leman 1968), until another round
tells no two nodes apart that were not told apart before. Sorted by their hashes nodes stand in an
order that has nothing to do with popularity, time or names.

Nodes that the rounds cannot tell apart are interchangeable but in rare regular graphs, so that it
makes no difference to any figure which of them comes first; a hash of their ids decides. Where the
choice has consequences for other nodes (which of two users alike stands first decides which of
their items does) further rounds follow it; a large log is asymmetric, and gets none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from lightgcn_jax.data.ids import IdMap

# Edges hashed at once, so that a long log needs little memory beside its own.
_EDGES_AT_ONCE = 1 << 20
# Real graphs settle after three or four; a path of n nodes would take n / 2.
_MOST_ROUNDS = 16
# Choices with further rounds, and the edges that all of these may look at.
_MOST_CHOICES, _MOST_EDGES = 64, 500_000
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def canonical_order(
    users: IdMap, items: IdMap, user_rows: Any, item_rows: Any, labels: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Which user and which item should stand at each row, whatever they are called.

    Edges are read in slices and held nowhere as a whole, so that their columns may be files.

    Args:
        users: U external user ids.
        items: I external item ids.
        user_rows: int[E], the user of each edge: an array, or what gives one when it is sliced.
        item_rows: int[E], the item of each edge, likewise.
        labels: int64[E] or float64[E], what tells edges apart, a part or a time, likewise; None for
            nothing.

    Returns:
        int64[U] and int64[I], permutations of the rows.
    """
    edges = _Edges(user_rows, item_rows, labels)
    hashes = np.zeros(len(users), np.uint64), np.ones(len(items), np.uint64)
    hashes = _refined(hashes, edges)
    choices = min(_MOST_CHOICES, _MOST_EDGES // max(1, len(user_rows)))
    same = np.zeros(len(users), np.uint64)
    for rows, others, marks in edges.blocks() if choices else ():
        np.add.at(same, rows, mixed(mixed(others.astype(np.uint64)) ^ marks))
    for _ in range(choices):
        chosen = _first_open(users, hashes[0], same)
        if chosen is None:
            break
        # As an array, whose sums wrap around without a warning.
        hashes[0][[chosen]] = mixed(hashes[0][[chosen]] ^ _GOLDEN)
        hashes = _refined(hashes, edges)
    user_hashes, item_hashes = hashes
    user_order = _sorted(users, user_hashes)
    # Of items alike the one goes first whose users do: then both sides' choices fit each other.
    places = np.empty(len(users), np.uint64)
    places[user_order] = np.arange(len(users), dtype=np.uint64)
    item_hashes = _gathered(item_hashes, mixed(places), edges.turned())
    return user_order, _sorted(items, item_hashes)


def edge_labels(count: int, *columns: np.ndarray | None) -> np.ndarray:
    """One number for each edge that tells apart what its columns tell apart.

    Args:
        count: E.
        columns: numbers [E] each; None is left out.

    Returns:
        int64[E]; zeros where no column is given.
    """
    labels = np.zeros(count, np.int64)
    for values in columns:
        if values is not None:
            words = (values + 0.0).view(np.int64) if values.dtype.kind == "f" else values
            labels = labels * np.int64(31) + words.astype(np.int64)
    return labels


def mixed(words: np.ndarray) -> np.ndarray:
    """A bijection of 64-bit words whose every output bit depends on every input bit (splitmix64).

    Args:
        words: uint64, any shape.

    References:
        Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators".
    """
    words = words + _GOLDEN
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _first_open(users: IdMap, hashes: np.ndarray, same: np.ndarray) -> int | None:
    """A user who is told apart from none of those alike, though they have other items.

    Args:
        users: their ids.
        hashes: uint64[U].
        same: uint64[U], equal for users who have the very same edges: these may stay as they are.
    """
    order = np.lexsort((same, hashes))
    alike = hashes[order][1:] == hashes[order][:-1]
    opened = alike & (same[order][1:] != same[order][:-1])
    if not opened.any():
        return None
    members = np.flatnonzero(hashes == hashes[order][1:][opened][0])
    chosen = _sorted(IdMap(users.ids.gather(members)), np.zeros(len(members), np.uint64))[0]
    return int(members[chosen])


class _Edges(NamedTuple):
    """Edges from a row to another node, with labels or None, whose columns are read in slices."""

    rows: Any
    others: Any
    labels: Any

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Rows, other nodes and mixed labels uint64 of some edges at a time."""
        for start in range(0, len(self.rows), _EDGES_AT_ONCE):
            here = slice(start, start + _EDGES_AT_ONCE)
            rows = self.rows[here]
            words = np.zeros(1, np.uint64) if self.labels is None else _words(self.labels[here])
            yield rows, self.others[here], mixed(words)

    def turned(self) -> _Edges:
        """The same edges the other way."""
        return _Edges(self.others, self.rows, self.labels)


def _refined(hashes: tuple[np.ndarray, np.ndarray], edges: _Edges) -> tuple[np.ndarray, np.ndarray]:
    """Hashes uint64[U] and uint64[I] that more rounds would tell no further apart."""
    users, items = map(len, hashes)
    classes = 0
    for _ in range(_MOST_ROUNDS):
        user_hashes = _gathered(hashes[0], hashes[1], edges)
        hashes = user_hashes, _gathered(hashes[1], user_hashes, edges.turned())
        found = sum(len(np.unique(one)) for one in hashes)
        if found <= classes or found == users + items:
            break
        classes = found
    return hashes


def _gathered(own: np.ndarray, hashes: np.ndarray, edges: _Edges) -> np.ndarray:
    """New hashes of nodes: their own with the sum, modulo 2⁶⁴, of their edges'.

    A sum of integers is the same in every order, so neither rows nor edges need a canonical one.
    """
    sums = np.zeros(len(own), np.uint64)
    for rows, others, marks in edges.blocks():
        np.add.at(sums, rows, mixed(hashes[others] ^ marks))
    return mixed(own ^ mixed(sums))


def _words(labels: np.ndarray) -> np.ndarray:
    """Labels as uint64; zeros of either sign are equal."""
    if labels.dtype.kind == "f":
        return (labels.astype(np.float64) + 0.0).view(np.uint64)
    return labels.astype(np.int64).view(np.uint64)


def _sorted(ids: IdMap, hashes: np.ndarray) -> np.ndarray:
    """The rows by their hashes, equal ones by a hash of their ids' text."""
    order = np.argsort(hashes, kind="stable")
    ranked = hashes[order]
    equal = np.zeros(len(ranked), bool)
    equal[1:] = ranked[1:] == ranked[:-1]
    equal[:-1] |= equal[1:]
    alike = order[equal]
    if not len(alike):
        return order
    texts = ids.ids.gather(alike).cast(pl.String).to_list()
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    by_id = np.frombuffer(b"".join(digests), np.uint64)
    order[equal] = alike[np.lexsort((by_id, hashes[alike]))]
    return order
