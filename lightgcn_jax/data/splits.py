"""Splits: which interactions train a model, which choose it and which judge it.

Every function here gives the same split for the same interactions and seed, in whatever order the
interactions came and however users and items are called: what is drawn, interactions at one moment
included, is drawn in the order of :mod:`lightgcn_jax.data.canonical`.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lightgcn_jax.data.canonical import canonical_order, edge_labels
from lightgcn_jax.data.changes import CountChange
from lightgcn_jax.data.described import (
    GIVEN,
    asked_shares,
    check_filled,
    counted,
    dropped_note,
    least_to_give,
    leave_k_out_description,
    ratio_description,
    share_notes,
    short_notes,
    temporal_description,
    unseen_error,
    unseen_notes,
)
from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.interactions import TEST, TRAIN, VALID, Interactions
from lightgcn_jax.data.pairs import (
    PARTS,
    MappedPairs,
    Pairs,
    check_rows,
    joined_weights,
    merge_pairs,
    new_rows,
)
from lightgcn_jax.data.titles import Titles
from lightgcn_jax.data.withholding import (
    check_ratios,
    codes_by_time,
    last_of_each_user,
    shares_of_each_user,
    shuffled,
)
from lightgcn_jax.errors import InputError
from lightgcn_jax.shown import Shown

SplitMethod = Literal["given", "ratio", "leave-k-out", "temporal", "temporal-per-user"]
"""How interactions are split; None is ``given`` where the files give a split, else ``ratio``."""

Unseen = Literal["keep", "drop", "error"]
"""What to do with valid and test pairs whose user or item no training interaction names."""


@dataclass(frozen=True, eq=False, repr=False)
class Split(Shown):
    """Disjoint training, validation and test pairs over one set of rows.

    Attributes:
        users: U external user ids.
        items: I external item ids.
        train: Pairs to train on, at least one.
        valid: Pairs to choose a model by.
        test: Pairs to judge it by.
        description: One line: method, shares, seed.
        notes: Counts worth telling a user.
        report: What preparation did before the split.
        titles: What people call the items, where that is known.
    """

    users: IdMap
    items: IdMap
    train: Pairs
    valid: Pairs
    test: Pairs
    description: str
    notes: tuple[str, ...] = ()
    report: tuple[CountChange, ...] = ()
    titles: Titles | None = None

    def __post_init__(self) -> None:
        parts: dict[str, Pairs] = {name: getattr(self, name) for name in PARTS}
        for name, pairs in parts.items():
            if not isinstance(pairs, MappedPairs):  # which were checked, and may be on a disk
                check_rows(f"{name}.users", pairs.users, len(self.users))
                check_rows(f"{name}.items", pairs.items, len(self.items))
        if not len(self.train):
            raise InputError("train: expected at least one interaction, got none")
        if len({pairs.weights is None for pairs in parts.values() if len(pairs)}) > 1:
            raise InputError("train, valid and test: expected weights in each of them or in none")
        read = [name for name in PARTS if not isinstance(parts[name], MappedPairs)]
        for one, other in itertools.combinations(read, 2):
            if shared := parts[one].count_shared(parts[other]):
                raise InputError(
                    f"{one} and {other} share {shared:,} pairs; a pair may stand in one part only"
                )

    def counts(self) -> str:
        """How many users, items and training pairs, in a line."""
        return f"{len(self.users):,} users, {len(self.items):,} items, {len(self.train):,} train"

    def facts(self) -> dict[str, str]:
        """How many there are of what, and how the parts were made."""
        rest = ", ".join(f"{len(getattr(self, part)):,} {part}" for part in PARTS[1:])
        return {"holds": f"{self.counts()}, {rest}", "made by": self.description}

    def in_canonical_order(self) -> "Split":
        """The same split with rows in an order that no name and no order of a file has a say in.

        Where equal scores are ranked by the lower row, where vectors are drawn row by row, and so
        on, two logs that differ in names or in the order of their rows then give the same figures.
        """
        parts = [getattr(self, name) for name in PARTS]
        users = np.concatenate([pairs.users for pairs in parts])
        items = np.concatenate([pairs.items for pairs in parts])
        labels = np.repeat(np.arange(len(parts)), [len(pairs) for pairs in parts])
        weights = joined_weights(*parts)
        # Weights that are all alike tell nothing apart: the order is that without any.
        if weights is not None and (weights != weights[0]).any():
            labels = edge_labels(len(labels), labels, weights.astype(np.float64))
        return self.reordered(*canonical_order(self.users, self.items, users, items, labels))

    def reordered(self, users: np.ndarray, items: np.ndarray) -> "Split":
        """The same split with other rows: row p holds what row ``users[p]``, ``items[p]`` held.

        All external ids keep their interactions; of equal scores another one may come first.

        Args:
            users: int[U], the old row of the user at each new row, each once.
            items: int[I], the old row of the item at each new row, each once.

        Raises:
            InputError: An order leaves a row out.
        """
        user_rows = new_rows("users", users, len(self.users))
        item_rows = new_rows("items", items, len(self.items))
        ids = IdMap(self.users.ids.gather(users)), IdMap(self.items.ids.gather(items))
        parts = {name: getattr(self, name).moved(user_rows, item_rows) for name in PARTS}
        return replace(self, users=ids[0], items=ids[1], **parts)


def given_split(interactions: Interactions, unseen: Unseen = "keep") -> Split:
    """The split that came with the files.

    Args:
        interactions: With ``parts``.
        unseen: Whether valid and test pairs whose user or item no training interaction names
            are kept, dropped or refused.

    Raises:
        InputError: The files gave no split, or no training interaction.
    """
    if interactions.parts is None:
        raise InputError(
            "the files gave no split (a train and a test file); "
            "choose a ratio, leave-k-out or temporal split"
        )
    data = _ordered_pairs(interactions)
    assert data.parts is not None
    return _assemble(data, data.parts, GIVEN, unseen=unseen)


def ratio_split(
    interactions: Interactions,
    train: float = 0.8,
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    allow_empty: bool = False,
) -> Split:
    """A random share of every user's interactions.

    A user with n interactions gives ⌊n·test + ½⌋ to test and ⌊n·valid + ½⌋ to valid, less what it
    takes to leave one in train (valid yields before test).

    Args:
        interactions: Events; of repeated pairs one is kept.
        train: The share to train on, above 0.
        valid: The share to choose a model by, 0 or more.
        test: The share to judge it by, 0 or more; the three add up to 1.
        seed: The same seed gives the same split.
        allow_empty: Whether a part may stay empty for which there are too few interactions.

    Raises:
        InputError: The shares do not fit, or a part that was asked for stays empty.
    """
    check_ratios(train, valid, test)
    data = _ordered_pairs(interactions)
    codes = shares_of_each_user(data.user_rows, shuffled(data, seed), valid, test)
    description = ratio_description(train, valid, test, seed)
    asked = asked_shares(valid, test)
    notes = share_notes(np.bincount(data.user_rows), counted(codes), asked)
    asked = {} if allow_empty else asked
    return _assemble(data, codes, description, notes, asked=asked, each_user=True)


def undivided(interactions: Interactions) -> Split:
    """No split: everything trains, for a model that is to serve and not to be judged.

    Args:
        interactions: Events; of repeated pairs one is kept.
    """
    data = _ordered_pairs(interactions)
    return _assemble(data, np.full(len(data), TRAIN, np.uint8), "everything trains")


def leave_k_out_split(
    interactions: Interactions, k: int = 1, latest: bool | None = None, seed: int = 0
) -> Split:
    """k test and k validation interactions of every user who has at least 2k + 1.

    Args:
        interactions: Events; of repeated pairs one is kept.
        k: Interactions to withhold for each of the two parts, 1 or more.
        latest: True withholds a user's last interactions by time (test after valid), False
            random ones; None goes by time where there are timestamps.
        seed: Of the random choice, and of the order of a user's interactions at one moment.

    Raises:
        InputError: ``latest`` without timestamps, or no user has enough interactions.
    """
    if k < 1:
        raise InputError(f"k: expected an integer of 1 or more, got {k}")
    if latest is None:
        latest = interactions.timestamps is not None
    data = _ordered_pairs(interactions)
    users = data.user_rows
    counts = np.bincount(users)
    withheld = np.where(counts >= 2 * k + 1, k, 0)

    def assigned(order: np.ndarray) -> np.ndarray:
        return last_of_each_user(users, order, withheld, withheld)

    if latest:
        codes, notes = codes_by_time(data, users, seed, assigned)
    else:
        codes, notes = assigned(shuffled(data, seed)), ()
    notes += short_notes(counts, k)
    description = leave_k_out_description(k, latest=latest, seed=seed)
    return _assemble(data, codes, description, notes, asked={"valid": 0.0, "test": 0.0})


def temporal_split(
    interactions: Interactions,
    train: float = 0.8,
    valid: float = 0.1,
    test: float = 0.1,
    per_user: bool = False,
    unseen: Unseen = "keep",
    seed: int = 0,
) -> Split:
    """The past trains, what followed chooses, the latest judges.

    Interactions at one moment are ordered by a draw; a note says how many users have any.

    Args:
        interactions: Events with timestamps; of repeated pairs the latest is kept.
        train: The share to train on, above 0.
        valid: The share to choose a model by, 0 or more.
        test: The share to judge it by, 0 or more; the three add up to 1.
        per_user: Cut every user's own history (counts as in ``ratio_split``) in place of all
            interactions at one moment.
        unseen: Whether valid and test pairs whose user or item no training interaction names
            are kept, dropped or refused.
        seed: Of the order of interactions at one moment.

    Raises:
        InputError: No timestamps, shares that do not fit, or a part asked for stays empty.
    """
    check_ratios(train, valid, test)
    data = _ordered_pairs(interactions)
    # One history for all: everything belongs to one common user.
    users = data.user_rows if per_user else np.zeros_like(data.user_rows)

    def assigned(order: np.ndarray) -> np.ndarray:
        return shares_of_each_user(users, order, valid, test)

    codes, notes = codes_by_time(data, users, seed, assigned)
    description = temporal_description(train, valid, test, per_user=per_user)
    asked = asked_shares(valid, test)
    notes += share_notes(np.bincount(users), counted(codes), asked) if per_user else ()
    return _assemble(data, codes, description, notes, unseen, asked, each_user=per_user)


def carve_validation(split: Split, ratio: float = 0.1, seed: int = 0) -> Split:
    """Moves a random share of every user's training interactions to validation.

    A user with n training interactions gives ⌊n·ratio + ½⌋ of them, but keeps at least one.

    Args:
        split: What to take from; its test pairs stay as they are.
        ratio: The share, above 0 and below 1.
        seed: The same seed gives the same choice.

    Raises:
        InputError: The share does not fit, or no user has enough to give one.
    """
    if not 0 < ratio < 1:
        raise InputError(f"ratio: expected a share between 0 and 1, got {ratio}")
    users, items = split.train.users, split.train.items
    data = Interactions(split.users, split.items, users, items)
    moved = shares_of_each_user(users, shuffled(data, seed), ratio, 0.0) == VALID
    if not moved.any():
        raise InputError(
            f"ratio={ratio:g} leaves validation empty: a user needs {least_to_give(ratio)} "
            f"training interactions to give one and the largest has {np.bincount(users).max()}; "
            "choose a larger ratio"
        )
    carved = replace(
        split,
        train=split.train.at(~moved),
        valid=merge_pairs(split.valid, split.train.at(moved)),
        description=f"{split.description}; valid: {ratio:g} of each user's train, seed {seed}",
    )
    # An item may have lost its last training interaction, so those counts are taken anew.
    before = _unseen_notes(split)
    kept = tuple(note for note in split.notes if note not in before)
    note = f"{int(moved.sum()):,} interactions moved from train to valid"
    return replace(carved, notes=(*kept, note, *_unseen_notes(carved)))


def _ordered_pairs(interactions: Interactions) -> Interactions:
    """Interactions without repeated pairs, in ascending order of (user, item)."""
    data = interactions.deduplicated() if interactions.has_duplicates else interactions
    return data.taken(np.argsort(data.pair_keys, kind="stable"))


def _assemble(
    data: Interactions,
    codes: np.ndarray,
    description: str,
    notes: tuple[str, ...] = (),
    unseen: Unseen = "keep",
    asked: Mapping[str, float] | None = None,
    each_user: bool = False,
) -> Split:
    """Builds the split in which the pair e of ordered ones belongs to part ``codes[e]``.

    ``asked`` are the parts that must not stay empty, with their shares; ``each_user`` says that
    shares are of each user.
    """
    if unseen not in ("keep", "drop", "error"):
        raise InputError(f"unseen: expected keep, drop or error, got {unseen!r}")
    if not len(data):
        raise InputError("expected at least one interaction to split, got none")
    users, items = data.user_rows, data.item_rows
    seen_users = np.bincount(users[codes == TRAIN], minlength=data.num_users) > 0
    seen_items = np.bincount(items[codes == TRAIN], minlength=data.num_items) > 0
    is_unseen = ~(seen_users[users] & seen_items[items])
    dropped: dict[str, int] = dict.fromkeys(PARTS, 0)
    if is_unseen.any():
        withheld = int((codes != TRAIN).sum())
        if unseen == "error":
            raise unseen_error(int(is_unseen.sum()), withheld)
        if unseen == "drop":
            dropped = {
                name: int((is_unseen & (codes == code)).sum()) for code, name in enumerate(PARTS)
            }
            codes = np.where(is_unseen, TEST + 1, codes)
            notes = (*notes, dropped_note(int(is_unseen.sum()), withheld))
    pairs = Pairs(users, items, data.weights)
    parts = {
        name: pairs.at(codes == code)
        for name, code in zip(PARTS, (TRAIN, VALID, TEST), strict=True)
    }
    held = {name: len(part) for name, part in parts.items()}
    counts = np.bincount(users, minlength=data.num_users)
    check_filled(held, asked or {}, description, counts, dropped, each_user=each_user)
    of_data = {"report": data.report, "titles": data.titles}
    split = Split(data.users, data.items, **parts, description=description, **of_data)
    return replace(split, notes=(*notes, *_unseen_notes(split)))


def _unseen_notes(split: Split) -> tuple[str, ...]:
    return unseen_notes(split.train, {name: getattr(split, name) for name in PARTS[1:]})
