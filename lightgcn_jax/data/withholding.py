"""Which interactions of each user are withheld: the last in an order of time, or of a draw.

What is drawn depends on the seed and on who met what, not on rows, names or the order of a file:
see :mod:`lightgcn_jax.data.canonical`.
"""

from collections.abc import Callable, Mapping

import numpy as np

from lightgcn_jax.data.canonical import canonical_order, mixed
from lightgcn_jax.data.interactions import TEST, TRAIN, VALID, Interactions
from lightgcn_jax.data.pairs import PARTS, new_rows, pair_keys
from lightgcn_jax.errors import InputError

# A part's share may miss what was asked for by so much, as a share of that, before it is said.
_FAR_FROM_SHARE = 0.2


def shuffled(data: Interactions, seed: int) -> np.ndarray:
    """Puts every user's interactions in random order, the users in theirs.

    Args:
        data: E distinct pairs, their users ascending.
        seed: The same seed gives the same order.

    Returns:
        int[E], a permutation.
    """
    draws = _draws(data, seed, None)
    return np.argsort(data.user_rows.astype(np.int64) << 32 | draws, kind="stable")


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
    order = np.lexsort((times, users))
    codes = assign(order)
    same = _same_as_before(users, times, order)
    if not same.any():
        return codes, ()
    moments = np.cumsum(~same)
    ranked = codes[order]
    parted = moments[1:][same[1:] & (ranked[1:] != ranked[:-1])]
    # A draw costs time on a long log, so it is made where it decides something.
    drawn = np.flatnonzero(np.isin(moments, parted)) if len(parted) else parted
    if len(drawn):
        members = order[drawn]
        draws = _draws(data, seed, times)[members]
        order[drawn] = members[np.lexsort((draws, moments[drawn]))]
        codes = assign(order)
    same[:-1] |= same[1:]
    several = _users_with_several(moments[same], data.user_rows[order[same]])
    if not several and not len(drawn):
        return codes, ()
    known = int((np.bincount(data.user_rows) > 0).sum())
    note = (
        f"{several:,} of {known:,} users have several interactions at one moment; of "
        f"{len(drawn):,} interactions at a moment that a cut goes through, seed {seed} decides the "
        "part"
    )
    return codes, (note,)


def _users_with_several(moments: np.ndarray, users: np.ndarray) -> int:
    """How many users stand twice with one moment."""
    keys = np.sort(moments << 32 | users.astype(np.int64))
    return len(np.unique(keys[1:][keys[1:] == keys[:-1]] & 0xFFFFFFFF))


def _draws(data: Interactions, seed: int, labels: np.ndarray | None) -> np.ndarray:
    """A random word for each pair, uint32[E]; it depends on no name and no row."""
    if seed < 0:
        raise InputError(f"seed: expected an integer of 0 or more, got {seed}")
    user_order, item_order = canonical_order(
        data.users, data.items, data.user_rows, data.item_rows, labels
    )
    user_places = new_rows("users", user_order, data.num_users)
    item_places = new_rows("items", item_order, data.num_items)
    keys = pair_keys(user_places[data.user_rows], item_places[data.item_rows]).view(np.uint64)
    stream = mixed(np.array([seed % 2**64], np.uint64))
    return (mixed(keys ^ stream) >> np.uint64(32)).astype(np.uint32)


def _same_as_before(users: np.ndarray, times: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Whether each interaction in an order has the user and the moment of the one before it."""
    ranked_users, ranked_times = users[order], times[order]
    same = np.zeros(len(order), bool)
    same[1:] = (ranked_users[1:] == ranked_users[:-1]) & (ranked_times[1:] == ranked_times[:-1])
    return same


def share_notes(
    users: np.ndarray, codes: np.ndarray, asked: Mapping[str, float]
) -> tuple[str, ...]:
    """What a part holds where rounding each user's share makes it another than was asked for.

    Args:
        users: int[E].
        codes: uint8[E], the part of each interaction.
        asked: The shares that were asked for, by part.
    """
    counts = np.bincount(users)
    counts, notes = counts[counts > 0], []
    for name, share in asked.items():
        held = float((codes == PARTS.index(name)).mean())
        if abs(held - share) > _FAR_FROM_SHARE * share:
            least = least_to_give(share)
            notes.append(
                f"{name} holds {held:.1%} of the interactions, {share:.1%} was asked for: shares "
                f"are of each user and rounded, and {int((counts < least).sum()):,} of "
                f"{len(counts):,} users have fewer than {least} interactions and give it none"
            )
    return tuple(notes)


def least_to_give(share: float) -> int:
    """The interactions that a user needs to give one to a part.

    Args:
        share: The part's share of each user, above 0.
    """
    return max(2, int(np.ceil(0.5 / share - 1e-9)))


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

    A user with n interactions gives ⌊n·share + ½⌋, less what it takes to keep one.

    Args:
        users: int[E], ascending.
        ranking: int[E], a permutation that keeps every user's interactions together.
        valid: The share of valid.
        test: The share of test.

    Returns:
        uint8[E], TRAIN, VALID or TEST of each entry of ``users``.
    """
    counts = np.bincount(users)

    # A product such as 100 · 0.145 falls a hair short of the half that it is meant to be.
    def rounded(ratio: float) -> np.ndarray:
        return np.floor(counts * ratio + 0.5 + 1e-9).astype(np.int64)

    spare = np.maximum(counts - 1, 0)
    test_counts = np.minimum(rounded(test), spare)
    valid_counts = np.minimum(rounded(valid), spare - test_counts)
    return last_of_each_user(users, ranking, valid_counts, test_counts)


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
