"""What a split says of itself: how it was made, what its parts miss, why one stays empty."""

import itertools
from collections.abc import Mapping
from typing import Literal

import numpy as np

from lightgcn_jax.data.pairs import PARTS, Pairs
from lightgcn_jax.errors import InputError

GIVEN = "split given by the files"
"""How a split was made that came with the files."""

# A part's share may miss what was asked for by so much, as a share of that, before it is said.
_FAR_FROM_SHARE = 0.2


def ratio_description(train: float, valid: float, test: float, seed: int) -> str:
    """How a random split by shares was made.

    Args:
        train: the share to train on.
        valid: the share to choose a model by.
        test: the share to judge it by.
        seed: of the draw.
    """
    return f"random share of each user: {_shares(train, valid, test)}, seed {seed}"


def leave_k_out_description(k: int, *, latest: bool, seed: int) -> str:
    """How a split was made that withholds k interactions of each user.

    Args:
        k: interactions withheld for each part.
        latest: whether they are the last by time.
        seed: of the draw.
    """
    how = "latest" if latest else f"random, seed {seed}"
    return f"leave {k} out: {k} valid and {k} test interactions of each user, {how}"


def temporal_description(train: float, valid: float, test: float, *, per_user: bool) -> str:
    """How a split by time was made.

    Args:
        train: the share to train on.
        valid: the share to choose a model by.
        test: the share to judge it by.
        per_user: whether each user's own history was cut.
    """
    scope = "each user's history" if per_user else "all interactions"
    return f"temporal cut of {scope}: {_shares(train, valid, test)}"


def asked_shares(valid: float, test: float) -> dict[str, float]:
    """The parts whose share is above 0, which the user wants to find filled.

    Args:
        valid: the share of valid.
        test: the share of test.
    """
    shares = {"valid": valid, "test": test}
    return {name: share for name, share in shares.items() if share > 0}


def share_notes(
    counts: np.ndarray, held: Mapping[str, int], asked: Mapping[str, float]
) -> tuple[str, ...]:
    """What a part holds where rounding each user's share makes it another than was asked for.

    Args:
        counts: int[U], interactions of each user.
        held: interactions of each part.
        asked: the shares that were asked for, by part.
    """
    counts, notes = counts[counts > 0], []
    total = int(counts.sum())
    for name, share in asked.items():
        found = held[name] / total
        if abs(found - share) > _FAR_FROM_SHARE * share:
            least = least_to_give(share)
            notes.append(
                f"{name} holds {found:.1%} of the interactions, {share:.1%} was asked for: shares "
                f"are of each user and rounded, and {int((counts < least).sum()):,} of "
                f"{len(counts):,} users have fewer than {least} interactions and give it none"
            )
    return tuple(notes)


def short_notes(counts: np.ndarray, k: int) -> tuple[str, ...]:
    """How many users have too few interactions for k to be withheld twice, where any have.

    Args:
        counts: int[U], interactions of each user.
        k: interactions withheld for each part.
    """
    known = int((counts > 0).sum())
    short = known - int((counts >= 2 * k + 1).sum())
    if not short:
        return ()
    named = f"{short:,} of {known:,} users"
    return (f"{named} with fewer than {2 * k + 1} interactions stay wholly in train",)


def moment_notes(several: int, known: int, drawn: int, seed: int) -> tuple[str, ...]:
    """How many users have several interactions at one moment, and how much the seed decided.

    Args:
        several: users with several interactions at one moment.
        known: users with interactions.
        drawn: interactions at a moment that a cut goes through.
        seed: what decided the part of these.
    """
    if not several and not drawn:
        return ()
    return (
        f"{several:,} of {known:,} users have several interactions at one moment; of "
        f"{drawn:,} interactions at a moment that a cut goes through, seed {seed} decides the part",
    )


def unseen_notes(train: Pairs, withheld: Mapping[str, Pairs]) -> tuple[str, ...]:
    """How many users and items of the withheld parts no training interaction names.

    Args:
        train: the training pairs.
        withheld: valid and test.
    """
    notes = []
    kinds: tuple[Literal["users", "items"], ...] = ("users", "items")
    for (part, pairs), kind in itertools.product(withheld.items(), kinds):
        rows, trained = getattr(pairs, kind), train.named(kind)
        if unknown := _distinct(rows, beyond=trained):
            count = of(unknown, _distinct(rows))
            notes.append(
                f"{count} {part} {kind} have no training interaction; evaluation counts them apart"
            )
    return tuple(notes)


def unseen_error(unseen: int, withheld: int) -> InputError:
    """The error where withheld pairs name what training does not, and none may.

    Args:
        unseen: such pairs.
        withheld: valid and test pairs.
    """
    return InputError(
        f"{of(unseen, withheld)} valid and test interactions name a user or an item that no "
        "training interaction names; keep or drop them by unseen='keep' or unseen='drop'"
    )


def dropped_note(unseen: int, withheld: int) -> str:
    """What is said of withheld pairs that were dropped, as they name what training does not.

    Args:
        unseen: such pairs.
        withheld: valid and test pairs.
    """
    return (
        f"{of(unseen, withheld)} valid and test interactions dropped: no training interaction "
        "names their user or item"
    )


def check_filled(
    held: Mapping[str, int],
    asked: Mapping[str, float],
    description: str,
    counts: np.ndarray,
    dropped: Mapping[str, int],
    *,
    each_user: bool,
) -> None:
    """Refuse a split of which a part stays empty that was asked for.

    Args:
        held: interactions of each part.
        asked: the parts that must not stay empty, with their shares.
        description: how the split was made.
        counts: int[U], interactions of each user.
        dropped: interactions of each part that name what training does not, and were dropped.
        each_user: whether shares are of each user.

    Raises:
        InputError: one does.
    """
    for name, share in asked.items():
        if held[name]:
            continue
        known = f"{int(counts.sum()):,} interactions of {len(counts):,} users"
        most = int(counts.max(initial=0))
        why = f"{known} (at most {most} of one user) are too few for this split"
        if dropped[name]:
            why = f"all its {dropped[name]:,} interactions name a user or an item that no training "
            why += "interaction names, and unseen='drop' drops these"
        elif each_user:
            why = f"a user needs {least_to_give(share)} interactions to give it one, "
            why += f"and of {known} nobody has more than {most}"
        raise InputError(
            f"{description}: {name} stays empty: {why}; choose other shares or another split, or "
            "gather more interactions"
        )


def least_to_give(share: float) -> int:
    """The interactions that a user needs to give one to a part.

    Args:
        share: The part's share of each user, above 0.
    """
    return max(2, int(np.ceil(0.5 / share - 1e-9)))


def counted(codes: np.ndarray) -> dict[str, int]:
    """How many interactions each part holds.

    Args:
        codes: uint8[E], the part of each interaction; higher codes are of no part.
    """
    counts = np.bincount(codes, minlength=len(PARTS))
    return {name: int(count) for name, count in zip(PARTS, counts, strict=False)}


def of(count: int, total: int) -> str:
    """A count beside its total.

    Args:
        count: how many.
        total: of how many.
    """
    return f"{count:,} of {total:,} ({count / total:.0%})"


def _distinct(rows: np.ndarray, beyond: np.ndarray | None = None) -> int:
    """How many rows are among some that are not among others; no sort, for there may be many."""
    lengths = [int(one.max(initial=-1)) + 1 for one in (rows, beyond) if one is not None]
    found = np.zeros(max(lengths), bool)
    found[rows] = True
    if beyond is not None:
        found[beyond] = False
    return int(found.sum())


def _shares(train: float, valid: float, test: float) -> str:
    return f"train {train:g}, valid {valid:g}, test {test:g}"
