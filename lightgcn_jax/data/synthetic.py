"""Generated worlds with a known answer, from hundreds to hundreds of millions of edges.

A world is a stochastic block model. Users and items belong to groups; a user draws items without
repetition, a share `affinity` of them from the own group and the others from all other groups, each
in proportion to the item's popularity, which follows a power law, as the users' activity does.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.interactions import TEST, TRAIN, Interactions
from lightgcn_jax.errors import InputError

_CHUNK = 1 << 22  # slots drawn at a time: bounds the temporaries, whatever the number of edges
_ROUNDS = 16  # of drawing anew what a user had already; what is still repeated then is dropped
_START = 1_577_836_800.0  # 2020-01-01 in seconds
_SPAN = 2 * 365 * 86_400.0

_Rows = NDArray[np.int32]
_Keys = NDArray[np.int64]


@dataclass(frozen=True)
class World:
    """Interactions together with what generated them. Row numbers are those of the interactions.

    Attributes:
        interactions: what the users did; every user and every item of the world has a row, an item
            that nobody drew included. Times are uniform over two years and carry no preference.
        user_groups: int32[U].
        item_groups: int32[I].
        item_popularity: float64[I], the weight of each item within a draw; not normalised.
        affinity: share of a user's draws inside the own group; 1 where there is one group only.
    """

    interactions: Interactions
    user_groups: _Rows
    item_groups: _Rows
    item_popularity: NDArray[np.float64]
    affinity: float

    def preference(
        self, user_rows: ArrayLike, item_rows: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """The probability of each item in a user's single draw: an oracle's ranking scores.

        Args:
            user_rows: int[B].
            item_rows: int[C] to look at only some items; all I by default.

        Returns:
            float64[B, C]; a row over all items sums to 1.
        """
        groups = self.user_groups[np.asarray(user_rows)]
        items = slice(None) if item_rows is None else np.asarray(item_rows)
        mass = np.bincount(self.item_groups, weights=self.item_popularity)
        inside = self.affinity / mass[groups]
        # With one group nothing is outside, and the mass there is a zero that nothing uses.
        others = np.maximum(mass.sum() - mass[groups], np.finfo(np.float64).tiny)
        outside = (1 - self.affinity) / others
        own = groups[:, None] == self.item_groups[items][None, :]
        weight = np.where(own, inside[:, None], outside[:, None])
        return weight * self.item_popularity[items][None, :]


def generate_world(
    users: int = 2_000,
    items: int = 1_500,
    mean_degree: float = 20.0,
    groups: int = 12,
    affinity: float = 0.8,
    popularity_exponent: float = 0.6,
    activity_exponent: float = 0.5,
    string_ids: bool = True,
    seed: int = 0,
) -> World:
    """Generate a block world; time and memory grow with the number of edges, never with U × I.

    Args:
        users: U.
        items: I.
        mean_degree: expected distinct items of a user. No user expects fewer than a quarter of it;
            very popular items in very small groups may leave a user a few items short.
        groups: number of groups, of equal size up to one, for users and items alike.
        affinity: share of a user's interactions inside the own group, from 0 to 1.
        popularity_exponent: item popularity is rank ** -popularity_exponent; 0 is uniform.
        activity_exponent: user degree follows rank ** -activity_exponent; 0 is uniform.
        string_ids: external ids "user-12", "item-7"; otherwise the row numbers themselves.
        seed: the same arguments and seed give the same world.

    Returns:
        A World with timestamps in seconds and no ratings; its edges are sorted by user, then item.

    Raises:
        InputError: an argument is out of its range, or a user would need most items of a group.
    """
    _check_range("users", users, 1, 2**31 - 1)
    _check_range("items", items, 1, 2**31 - 1)
    _check_range("groups", groups, 1, min(users, items))
    _check_range("affinity", affinity, 0.0, 1.0)
    _check_range("popularity_exponent", popularity_exponent, 0.0, 4.0)
    _check_range("activity_exponent", activity_exponent, 0.0, 4.0)
    affinity = 1.0 if groups == 1 else float(affinity)
    most = _largest_degree(items, groups, affinity)
    _check_range(
        "mean_degree", mean_degree, 1.0, most, hint="; more items or fewer groups allow it"
    )
    rng = np.random.default_rng(seed)
    user_groups, activity = _ranked_population(rng, users, groups, activity_exponent)
    item_groups, popularity = _ranked_population(rng, items, groups, popularity_exponent)
    degrees = _degrees(rng, activity, mean_degree, most)
    catalogue = _Catalogue(item_groups, popularity, groups)
    user_rows, item_rows = _draw_edges(rng, degrees, user_groups, catalogue, affinity)
    ids = _external_ids("user", users, string_ids), _external_ids("item", items, string_ids)
    times = np.floor(_START + _SPAN * rng.random(user_rows.size))
    interactions = Interactions(*ids, user_rows, item_rows, timestamps=times)
    return World(interactions, user_groups, item_groups, popularity, affinity)


def default_world(seed: int = 0) -> World:
    """The demonstration world: 2,000 users, 1,500 items, about 40,000 interactions, 12 groups.

    Most of a user's interactions lie in the own group, a twelfth of the items, so a personalised
    ranking clearly beats one by popularity.

    Args:
        seed: The same seed gives the same world.
    """
    return generate_world(seed=seed)


def block_world(
    groups: int = 4, users_per_group: int = 10, items_per_group: int = 8, seed: int = 0
) -> Interactions:
    """A small world whose withheld cells have exactly one right answer.

    Every user interacts with all items of the own group and with no other. One cell of each user
    is withheld as the test part; the rest is the train part. The withheld items rotate through a
    group's users, so that every item keeps train interactions.

    Args:
        groups: number of groups; users are numbered group by group, items too.
        users_per_group: at least 2.
        items_per_group: at least 2.
        seed: decides which item each user lacks, and the order of the edges.

    Returns:
        Interactions with parts TRAIN and TEST, one test interaction a user.

    Raises:
        InputError: an argument is too small.
    """
    _check_range("groups", groups, 1, 10_000)
    _check_range("users_per_group", users_per_group, 2, 10_000)
    _check_range("items_per_group", items_per_group, 2, 10_000)
    rng = np.random.default_rng(seed)
    users, items = groups * users_per_group, groups * items_per_group
    order = np.argsort(rng.random((groups, items_per_group)), axis=1)
    withheld = order[:, np.arange(users_per_group) % items_per_group].reshape(-1)
    user_rows = np.repeat(np.arange(users), items_per_group)
    within = np.tile(np.arange(items_per_group), users)
    item_rows = user_rows // users_per_group * items_per_group + within
    parts = np.where(within == withheld[user_rows], TEST, TRAIN).astype(np.uint8)
    ids = _external_ids("user", users), _external_ids("item", items)
    rows = user_rows.astype(np.int32), item_rows.astype(np.int32)
    return Interactions(*ids, *rows, parts=parts).taken(rng.permutation(user_rows.size))


class _Catalogue:
    """Items in the order of their groups, with cumulative popularity for inverse-CDF draws."""

    def __init__(self, item_groups: _Rows, popularity: NDArray[np.float64], groups: int):
        self.item_groups = item_groups  # [I]
        # [I] item rows, group after group
        self.by_group = np.argsort(item_groups, kind="stable").astype(np.int32)
        # [groups + 1] where each group starts in by_group
        self.bounds = np.append(0, np.cumsum(np.bincount(item_groups, minlength=groups)))
        # [I + 1] popularity before each place of by_group
        self.cumulative = np.append(0.0, np.cumsum(popularity[self.by_group]))

    def draw(self, rng: Generator, groups: _Rows, inside: NDArray[np.bool_]) -> _Rows:
        """One item row a slot: within the slot's group where inside, among all others elsewhere."""
        low = self.cumulative[self.bounds[groups]]
        width = self.cumulative[self.bounds[groups + 1]] - low
        position = rng.random(groups.size)
        position *= np.where(inside, width, self.cumulative[-1] - width)
        # Inside starts at the group's mass; outside jumps over it.
        position += np.where(inside, low, np.where(position >= low, width, 0.0))
        place = np.searchsorted(self.cumulative, position, side="right") - 1
        return self.by_group[np.minimum(place, self.by_group.size - 1)]


def _draw_edges(
    rng: Generator, degrees: _Keys, user_groups: _Rows, catalogue: _Catalogue, affinity: float
) -> tuple[_Rows, _Rows]:
    """Distinct edges, a run of users at a time: runs share no edge, so each is finished alone."""
    ends = np.cumsum(degrees)
    cuts = np.searchsorted(ends, np.arange(_CHUNK, ends[-1], _CHUNK))
    bounds = np.unique(np.concatenate([[0], cuts, [degrees.size]]))
    items = catalogue.item_groups.size
    user_rows, item_rows = [], []
    for first, last in itertools.pairwise(bounds):
        users = np.repeat(np.arange(first, last), degrees[first:last])
        inside = rng.random(users.size) < affinity
        user, item = np.divmod(_draw_keys(rng, users, inside, user_groups, catalogue), items)
        user_rows.append(user.astype(np.int32))
        item_rows.append(item.astype(np.int32))
    return np.concatenate(user_rows), np.concatenate(item_rows)


def _draw_keys(
    rng: Generator, users: _Keys, inside: NDArray[np.bool_], groups: _Rows, catalogue: _Catalogue
) -> _Keys:
    """Sorted distinct user * I + item keys for the slots; a repeated pair is drawn anew in kind."""
    items = catalogue.item_groups.size
    keys = np.empty(0, np.int64)
    for _ in range(_ROUNDS):
        drawn = users * items + catalogue.draw(rng, groups[users], inside)
        drawn.sort()
        # A stable sort merges two sorted runs in linear time.
        keys = np.sort(np.concatenate([keys, drawn]), kind="stable") if keys.size else drawn
        repeated = np.concatenate([[False], keys[1:] == keys[:-1]])
        users, taken = np.divmod(keys[repeated], items)
        if users.size == 0:
            break
        inside = groups[users] == catalogue.item_groups[taken]
        keys = keys[~repeated]
    return keys


def _ranked_population(
    rng: Generator, count: int, groups: int, exponent: float
) -> tuple[_Rows, NDArray[np.float64]]:
    """Group and power-law weight of each row; every group gets its share of head and tail."""
    rank = rng.permutation(count)
    return (rank % groups).astype(np.int32), np.power(rank + 1.0, -exponent, dtype=np.float64)


def _largest_degree(items: int, groups: int, affinity: float) -> float:
    """The degree at which a user holds half of the own group's or half of the other items."""
    own = items // groups
    inside = own / affinity if affinity > 0 else np.inf
    outside = (items - own - 1) / (1 - affinity) if affinity < 1 else np.inf
    return max(1.0, min(inside, outside) / 2)


def _degrees(rng: Generator, activity: NDArray[np.float64], mean: float, most: float) -> _Keys:
    """Slots of each user: proportional to activity within limits, with the mean asked for."""
    least = max(1.0, mean / 4)
    low, high = np.log(least), np.log(most) - np.log(activity.min())
    for _ in range(40):  # the mean grows with the scale: halve the interval of its logarithm
        middle = (low + high) / 2
        if np.clip(np.exp(middle) * activity, least, most).mean() < mean:
            low = middle
        else:
            high = middle
    expected = np.clip(np.exp(high) * activity, least, most)
    return np.floor(expected + rng.random(activity.size)).astype(np.int64)


def _external_ids(kind: str, count: int, string_ids: bool = True) -> IdMap:
    rows = pl.int_range(count, eager=True).alias(kind)
    text = pl.format(f"{kind}-{{}}", rows).alias(kind)
    return IdMap(pl.select(text).to_series() if string_ids else rows)


def _check_range(name: str, value: float, low: float, high: float, hint: str = "") -> None:
    if not low <= value <= high:
        raise InputError(
            f"synthetic world: {name} must lie between {low:g} and {high:g}, got {value:g}{hint}."
        )
