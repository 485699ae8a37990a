"""Pairs on disk -> the part of each: the splits of :mod:`lightgcn_jax.data.splits`, block by block.

What is drawn is drawn from the same places by the same words, so that a pair comes into the same
part as in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np

from lightgcn_jax.data.described import (
    GIVEN,
    asked_shares,
    check_filled,
    dropped_note,
    leave_k_out_description,
    moment_notes,
    ratio_description,
    share_notes,
    short_notes,
    temporal_description,
    unseen_error,
)
from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.interactions import TEST, TRAIN, VALID
from lightgcn_jax.data.pairs import PARTS
from lightgcn_jax.data.splits import SplitMethod
from lightgcn_jax.data.withholding import (
    Places,
    last_of_each_user,
    share_counts,
    shares_of_each_user,
    shuffled_by,
    timed_codes,
)
from lightgcn_jax.errors import InputError
from lightgcn_jax.meter import Meter
from lightgcn_jax.prepared.pairs_files import PairFiles
from lightgcn_jax.prepared.preparation import Preparation
from lightgcn_jax.prepared.stored_columns import StoredColumn, column_writer

LEFT_OUT = TEST + 1
"""The code of a pair that is in no part."""

_DIGIT = 16  # bits by which a number is found among many


class Coded(NamedTuple):
    """What is to be said of the parts.

    Attributes:
        description: how they were made.
        notes: counts worth telling.
        held: pairs of each part.
    """

    description: str
    notes: tuple[str, ...]
    held: dict[str, int]


class Coder:
    """Gives every pair a part.

    Args:
        pairs: the pairs.
        ids: of users and items.
        plan: the settings.
        method: how to split.
        target: where the parts go, uint8.
        meter: receives progress.
    """

    def __init__(
        self,
        pairs: PairFiles,
        ids: tuple[IdMap, IdMap],
        plan: Preparation,
        method: SplitMethod,
        target: StoredColumn,
        meter: Meter,
    ):
        self._pairs, self._ids, self._plan = pairs, ids, plan
        self._method, self._target, self._meter = method, target, meter
        self._several = self._drawn = 0
        if "temporal" in method and "timestamp" not in pairs.columns:
            raise InputError(
                "a split by time needs timestamps and these interactions have none; "
                "name the timestamp column when reading, or choose a random split"
            )

    def write(self) -> Coded:
        """Write the parts of all pairs.

        Raises:
            InputError: a part stays empty that was asked for, or withheld pairs name what training
                does not and none may.
        """
        plan, method = self._plan, self._method
        self._meter.started("splitting", len(self._pairs), "pairs")
        counts = np.zeros(len(self._ids[0]), np.int64)
        held = np.zeros(LEFT_OUT + 1, np.int64)
        done = 0
        with column_writer(self._target.path, np.uint8) as out:
            for block, codes in self._codes():
                out.add(codes)
                counts += np.bincount(block["user"], minlength=len(counts))
                held += np.bincount(codes, minlength=len(held))
                done += len(codes)
                self._meter.advanced(done)
        shares, seed = plan.shares, plan.split_seed
        asked, notes = asked_shares(*shares[1:]), ()
        by_part = {name: int(held[code]) for code, name in enumerate(PARTS)}
        if method == "given":
            description, asked = GIVEN, {}
        elif method == "leave-k-out":
            latest = "timestamp" in self._pairs.columns
            description = leave_k_out_description(plan.leave_k, latest=latest, seed=seed)
            asked, notes = {"valid": 0.0, "test": 0.0}, short_notes(counts, plan.leave_k)
        elif method == "ratio":
            description = ratio_description(*shares, seed)
            notes = share_notes(counts, by_part, asked)
        else:
            per_user = method == "temporal-per-user"
            description = temporal_description(*shares, per_user=per_user)
            notes = share_notes(counts, by_part, asked) if per_user else ()
        known = int((counts > 0).sum())
        notes = (*moment_notes(self._several, known, self._drawn, seed), *notes)
        dropped: dict[str, int] = dict.fromkeys(PARTS, 0)
        if method not in ("ratio", "leave-k-out"):
            dropped, more = self._without_unseen(by_part)
            notes = (*notes, *more)
            by_part = {name: count - dropped[name] for name, count in by_part.items()}
        each_user = method in ("ratio", "temporal-per-user")
        check_filled(by_part, asked, description, counts, dropped, each_user=each_user)
        if not by_part["train"]:
            raise InputError("train: expected at least one interaction, got none")
        return Coded(description, notes, by_part)

    def _codes(self) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        """The pairs and their parts, whole users at a time."""
        if self._method == "temporal":
            yield from self._cut_at_moments()
            return
        for block in self._pairs.blocks(self._plan.rows_sorted):
            yield block, self._codes_of_users(block)

    def _codes_of_users(self, block: dict[str, np.ndarray]) -> np.ndarray:
        plan, method = self._plan, self._method
        if method == "given":
            return block["part"]
        first = block["user"][0]
        users = block["user"] - first
        k, shares = plan.leave_k, plan.shares
        withheld = np.where(np.bincount(users) >= 2 * k + 1, k, 0)

        def assign(order: np.ndarray) -> np.ndarray:
            if method == "leave-k-out":
                return last_of_each_user(users, order, withheld, withheld)
            return shares_of_each_user(users, order, *shares[1:])

        if method == "ratio" or "timestamp" not in block:
            draws = self._places.draws(block["user"], block["item"], plan.split_seed)
            return assign(shuffled_by(users, draws))

        def drawn(members: np.ndarray) -> np.ndarray:
            rows = block["user"][members], block["item"][members]
            return self._timed_places.draws(*rows, plan.split_seed)

        found = timed_codes(block["timestamp"], users, users, assign, drawn)
        self._several += found.several
        self._drawn += found.drawn
        return found.codes

    @cached_property
    def _places(self) -> Places:
        return Places.of(*self._ids, self._pairs.sliced("user"), self._pairs.sliced("item"))

    @cached_property
    def _timed_places(self) -> Places:
        users, items = self._pairs.sliced("user"), self._pairs.sliced("item")
        return Places.of(*self._ids, users, items, self._pairs.sliced("timestamp"))

    def _cut_at_moments(self) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        """One history for all, cut at two moments."""
        pairs, plan = self._pairs, self._plan
        total, size = len(pairs), plan.rows_sorted
        # The shares of a single user who has all interactions.
        withheld = [int(one[0]) for one in share_counts(np.array([total]), *plan.shares[1:])]
        firsts = total - withheld[0] - withheld[1], total - withheld[1]
        times = pairs.column("timestamp")
        moments = [_kth(times, rank, size) if rank < total else (np.inf, total) for rank in firsts]
        at_cut = self._at_moments({moment for moment, _ in moments})
        codes_at_cut = at_cut.codes(moments, firsts)
        self._drawn = at_cut.drawn(codes_at_cut)
        position = 0
        for block in pairs.blocks(size):
            codes = np.full(len(block["user"]), TRAIN, np.uint8)
            for code, (moment, _) in zip((VALID, TEST), moments, strict=True):
                codes[block["timestamp"] > moment] = code
            here = slice(*np.searchsorted(at_cut.positions, [position, position + len(codes)]))
            codes[at_cut.positions[here] - position] = codes_at_cut[here]
            self._several += _users_at_one_moment(block)
            position += len(codes)
            yield block, codes

    def _at_moments(self, moments: set[float]) -> _AtCut:
        """The pairs at the moments of the cuts, and random words for them."""
        positions, times, rows = [], [], []
        position = 0
        for block in self._pairs.blocks(self._plan.rows_sorted):
            members = np.flatnonzero(np.isin(block["timestamp"], list(moments)))
            positions.append(members + position)
            times.append(block["timestamp"][members])
            rows.append(np.stack([block[kind][members] for kind in ("user", "item")]))
            position += len(block["user"])
        moment_of, at = np.concatenate(times), np.concatenate(rows, axis=1)
        draws = np.zeros(len(moment_of), np.uint32)
        if len(np.unique(moment_of)) < len(moment_of):
            draws = self._timed_places.draws(at[0], at[1], self._plan.split_seed)
        return _AtCut(np.concatenate(positions), moment_of, draws)

    def _without_unseen(self, by_part: dict[str, int]) -> tuple[dict[str, int], tuple[str, ...]]:
        """What withheld pairs that name what training does not come to: counts, and notes."""
        plan, size = self._plan, self._plan.rows_sorted
        dropped: dict[str, int] = dict.fromkeys(PARTS, 0)
        if plan.unseen == "keep":
            return dropped, ()
        seen = [np.zeros(len(known), bool) for known in self._ids]
        codes = self._target
        for block, part in self._pairs.parted(codes, size):
            for kind, found in zip(("user", "item"), seen, strict=True):
                found[block[kind][part == TRAIN]] = True
        kept = StoredColumn(codes.path.with_suffix(".kept"), codes.dtype)
        with column_writer(kept.path, np.uint8) as out:
            for block, part in self._pairs.parted(codes, size):
                named = seen[0][block["user"]] & seen[1][block["item"]]
                for code, name in enumerate(PARTS):
                    dropped[name] += int((~named & (part == code)).sum())
                out.add(np.where(named, part, LEFT_OUT))
        unseen, withheld = sum(dropped.values()), by_part["valid"] + by_part["test"]
        if unseen and plan.unseen == "error":
            raise unseen_error(unseen, withheld)
        kept.path.replace(codes.path)
        return dropped, (dropped_note(unseen, withheld),) if unseen else ()


class _AtCut(NamedTuple):
    """Pairs at the moments of the cuts: their places among all, times, and random words."""

    positions: np.ndarray
    times: np.ndarray
    words: np.ndarray

    def codes(self, moments: list[tuple[float, int]], firsts: tuple[int, int]) -> np.ndarray:
        """The part of each: by its rank among all, where those at one moment stand by words."""
        order = np.lexsort((self.words, self.times))
        ranks = np.empty(len(order), np.int64)
        for moment, below in dict(moments).items():
            here = order[self.times[order] == moment]
            ranks[here] = below + np.arange(len(here))
        return ((ranks >= firsts[0]).astype(np.uint8) + (ranks >= firsts[1])).astype(np.uint8)

    def drawn(self, codes: np.ndarray) -> int:
        """How many are at a moment whose pairs come into several parts."""
        count = 0
        for moment in np.unique(self.times):
            here = codes[self.times == moment]
            count += len(here) if here.min() < here.max() else 0
        return count


def _users_at_one_moment(block: dict[str, np.ndarray]) -> int:
    """How many users of a block have several interactions at one moment."""
    order = np.lexsort((block["timestamp"], block["user"]))
    users, times = block["user"][order], block["timestamp"][order]
    same = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    return len(np.unique(users[1:][same]))


def _kth(column: StoredColumn, rank: int, size: int) -> tuple[float, int]:
    """The number at a rank among many, and how many lie below it: by its digits, one at a time."""
    prefix, known, below = 0, 0, 0
    while known < 64:
        shift = 64 - known - _DIGIT
        counts = np.zeros(1 << _DIGIT, np.int64)
        for start in range(0, column.size, size):
            words = _ordered(column.read(start, start + size))
            if known:
                words = words[words >> np.uint64(64 - known) == np.uint64(prefix)]
            digits = (words >> np.uint64(shift)) & np.uint64((1 << _DIGIT) - 1)
            counts += np.bincount(digits.astype(np.int64), minlength=len(counts))
        ends = np.cumsum(counts)
        digit = int(np.searchsorted(ends, rank - below, side="right"))
        below += int(ends[digit] - counts[digit])
        prefix, known = prefix << _DIGIT | digit, known + _DIGIT
    return float(_number(prefix)), below


def _ordered(numbers: np.ndarray) -> np.ndarray:
    """Words uint64 in the order of some numbers float64, zeros of either sign alike."""
    words = (numbers + 0.0).view(np.uint64)
    sign = np.uint64(1 << 63)
    return np.where(words & sign, ~words, words | sign)


def _number(word: int) -> float:
    sign = 1 << 63
    bits = word ^ sign if word & sign else ~word & (2**64 - 1)
    return float(np.array([bits], np.uint64).view(np.float64)[0])
