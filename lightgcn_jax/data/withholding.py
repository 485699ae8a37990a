"""Which interactions of each user are withheld: the last in an order of time, or of a draw.

What is drawn depends on the seed and on who met what, not on rows, names or the order of a file:
see :mod:`lightgcn_jax.data.canonical`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lightgcn_jax.data.canonical import canonical_order, mixed
from lightgcn_jax.data.described import moment_notes
from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.interactions import TEST, TRAIN, VALID, Interactions
from lightgcn_jax.data.pairs import new_rows, pair_keys
from lightgcn_jax.errors import InputError


class Places(NamedTuple):
    """Where users and items stand in an order that no name has a say in.

    Attributes:
        users: int32[U], the place of each user.
        items: int32[I], the place of each item.
    """

    users: np.ndarray
    items: np.ndarray

    @classmethod
    def of(
        cls, users: IdMap, items: IdMap, user_rows: Any, item_rows: Any, labels: Any = None
    ) -> "Places":
        """The places that :func:`canonical_order` gives.

        Args:
            users: U external user ids.
            items: I external item ids.
            user_rows: int[E], as that function takes them.
            item_rows: int[E], likewise.
            labels: what tells edges apart, likewise.
        """
        orders = canonical_order(users, items, user_rows, item_rows, labels)
        return cls(
            new_rows("users", orders[0], len(users)), new_rows("items", orders[1], len(items))
        )

    def draws(self, users: np.ndarray, items: np.ndarray, seed: int) -> np.ndarray:
        """A random word for each pair; it depends on no name and no row.

        Args:
            users: int[n], rows.
            items: int[n], rows.
            seed: the same seed gives the same words.

        Returns:
            uint32[n].
        """
        keys = pair_keys(self.users[users], self.items[items]).view(np.uint64)
        stream = mixed(np.array([seed % 2**64], np.uint64))
        return (mixed(keys ^ stream) >> np.uint64(32)).astype(np.uint32)


def shuffled(data: Interactions, seed: int) -> np.ndarray:
    """Puts every user's interactions in random order, the users in theirs.

    Args:
        data: E distinct pairs, their users ascending.
        seed: The same seed gives the same order.

    Returns:
        int[E], a permutation.
    """
    return shuffled_by(data.user_rows, _draws(data, seed, None))


def shuffled_by(users: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Puts every user's interactions in the order of random words, the users in theirs.

    Args:
        users: int[E], ascending.
        draws: uint32[E].

    Returns:
        int[E], a permutation.
    """
    return np.argsort(users.astype(np.int64) << 32 | draws, kind="stable")


class TimedCodes(NamedTuple):
    """The parts of interactions by time.

    Attributes:
        codes: uint8[E].
        several: users with several interactions at one moment.
        drawn: interactions at a moment that a cut goes through.
    """

    codes: np.ndarray
    several: int = 0
    drawn: int = 0


def codes_by_time(
    data: Interactions, users: np.ndarray, seed: int, assign: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Gives parts by time, those at one moment that a cut goes through in random order.

    Args:
        data: E distinct pairs with times.
        users: int[E], ascending: whose history each interaction belongs to.
        seed: Of the random order.
        assign: From an order of the interactions, int[E], to the part of each, uint8[E].

    Returns:
        uint8[E], the part of each interaction, and how many users have several interactions at
        one moment and how much the seed decided, where anybody has.

    Raises:
        InputError: There are no times.
    """
    times = _times(data)
    found = timed_codes(
        times, users, data.user_rows, assign, lambda members: _draws(data, seed, times)[members]
    )
    known = int((np.bincount(data.user_rows) > 0).sum())
    return found.codes, moment_notes(found.several, known, found.drawn, seed)


def timed_codes(
    times: np.ndarray,
    histories: np.ndarray,
    users: np.ndarray,
    assign: Callable[[np.ndarray], np.ndarray],
    draws: Callable[[np.ndarray], np.ndarray],
) -> TimedCodes:
    """As :func:`codes_by_time`, of columns.

    Args:
        times: float64[E].
        histories: int[E], ascending: whose history each interaction belongs to.
        users: int[E], whose each is.
        assign: From an order of the interactions, int[E], to the part of each, uint8[E].
        draws: From some interactions, int[n], to their random words, uint32[n].
    """
    order = np.lexsort((times, histories))
    codes = assign(order)
    same = _same_as_before(histories, times, order)
    if not same.any():
        return TimedCodes(codes)
    moments = np.cumsum(~same)
    ranked = codes[order]
    parted = moments[1:][same[1:] & (ranked[1:] != ranked[:-1])]
    # A draw costs time on a long log, so it is made where it decides something.
    drawn = np.flatnonzero(np.isin(moments, parted)) if len(parted) else parted
    if len(drawn):
        members = order[drawn]
        order[drawn] = members[np.lexsort((draws(members), moments[drawn]))]
        codes = assign(order)
    same[:-1] |= same[1:]
    several = _users_with_several(moments[same], users[order[same]])
    return TimedCodes(codes, several, len(drawn))


def _users_with_several(moments: np.ndarray, users: np.ndarray) -> int:
    """How many users stand twice with one moment."""
    keys = np.sort(moments << 32 | users.astype(np.int64))
    return len(np.unique(keys[1:][keys[1:] == keys[:-1]] & 0xFFFFFFFF))


def _draws(data: Interactions, seed: int, labels: np.ndarray | None) -> np.ndarray:
    """A random word for each pair, uint32[E]; it depends on no name and no row."""
    check_seed(seed)
    rows = data.user_rows, data.item_rows
    return Places.of(data.users, data.items, *rows, labels).draws(*rows, seed)


def check_seed(seed: int) -> None:
    """Refuse what is no seed.

    Args:
        seed: an integer of 0 or more.

    Raises:
        InputError: it is below 0.
    """
    if seed < 0:
        raise InputError(f"seed: expected an integer of 0 or more, got {seed}")


def _same_as_before(users: np.ndarray, times: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Whether each interaction in an order has the user and the moment of the one before it."""
    ranked_users, ranked_times = users[order], times[order]
    same = np.zeros(len(order), bool)
    same[1:] = (ranked_users[1:] == ranked_users[:-1]) & (ranked_times[1:] == ranked_times[:-1])
    return same


def check_ratios(train: float, valid: float, test: float) -> None:
    """Refuse what are no shares of three parts.

    Args:
        train: Above 0.
        valid: 0 or more.
        test: 0 or more; the three add up to 1.

    Raises:
        InputError: They do not fit.
    """
    given = f"train={train}, valid={valid}, test={test}"
    if not (train > 0 and valid >= 0 and test >= 0 and abs(train + valid + test - 1) <= 1e-6):
        raise InputError(
            f"expected shares with train above 0, the others 0 or more, and a sum of 1, got {given}"
        )


def shares_of_each_user(
    users: np.ndarray, ranking: np.ndarray, valid: float, test: float
) -> np.ndarray:
    """As ``last_of_each_user``, by shares of every user's interactions in place of counts.

    Args:
        users: int[E], ascending.
        ranking: int[E], a permutation that keeps every user's interactions together.
        valid: The share of valid.
        test: The share of test.

    Returns:
        uint8[E], TRAIN, VALID or TEST of each entry of ``users``.
    """
    return last_of_each_user(users, ranking, *share_counts(np.bincount(users), valid, test))


def share_counts(counts: np.ndarray, valid: float, test: float) -> tuple[np.ndarray, np.ndarray]:
    """How many of each user's interactions valid and test take.

    A user with n interactions gives ⌊n·share + ½⌋, less what it takes to keep one.

    Args:
        counts: int[users], interactions of each.
        valid: The share of valid.
        test: The share of test.

    Returns:
        int64[users], the number for valid and for test.
    """

    # A product such as 100 · 0.145 falls a hair short of the half that it is meant to be.
    def rounded(ratio: float) -> np.ndarray:
        return np.floor(counts * ratio + 0.5 + 1e-9).astype(np.int64)

    spare = np.maximum(counts - 1, 0)
    test_counts = np.minimum(rounded(test), spare)
    return np.minimum(rounded(valid), spare - test_counts), test_counts


def last_of_each_user(
    users: np.ndarray, ranking: np.ndarray, valid_counts: np.ndarray, test_counts: np.ndarray
) -> np.ndarray:
    """Gives the end of every user's ranked interactions to test, what precedes it to valid.

    Args:
        users: int[E], ascending.
        ranking: int[E], a permutation that keeps every user's interactions together.
        valid_counts: int[U].
        test_counts: int[U].

    Returns:
        uint8[E], TRAIN, VALID or TEST of each entry of ``users``.
    """
    ends = np.cumsum(np.bincount(users, minlength=len(test_counts)))
    from_end = ends[users] - 1 - np.arange(len(users))
    to_test = from_end < test_counts[users]
    to_valid = ~to_test & (from_end < (test_counts + valid_counts)[users])
    codes = np.full(len(users), TRAIN, dtype=np.uint8)
    codes[ranking[to_test]] = TEST
    codes[ranking[to_valid]] = VALID
    return codes


def _times(data: Interactions) -> np.ndarray:
    if data.timestamps is None:
        raise InputError(
            "a split by time needs timestamps and these interactions have none; "
            "name the timestamp column when reading, or choose a random split"
        )
    return data.timestamps
