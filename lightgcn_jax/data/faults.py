"""Rows that do not fit: which ones, why, and whether the others are read without them."""

from collections.abc import Callable
from pathlib import Path

import polars as pl

from lightgcn_jax.errors import InputError

_SHOWN = 3  # bad rows that a note names


REFUSED_BY = " (--missing error refuses them)"
"""What a note says behind rows that are left out; only the command line has the flag."""


class Faults:
    """Rows that do not fit, each with the first reason that was found."""

    def __init__(self, path: Path, numbers: pl.Series, place: str = "line") -> None:
        self._path = path
        self._numbers = numbers
        self._place = place
        self._bad: pl.Series | None = None
        self._absent: pl.Series | None = None
        self._reasons: list[tuple[pl.Series, Callable[[int], str]]] = []

    def add(self, bad: pl.Series, reason: Callable[[int], str]) -> None:
        """Refuse rows.

        Args:
            bad: Boolean [n].
            reason: why, by the row's place.
        """
        if bad.any():
            self._reasons.append((bad, reason))
            self._bad = bad if self._bad is None else self._bad | bad

    def leave_out(self, absent: pl.Series) -> None:
        """Leave rows out for want of a user or an item, which is no fault.

        Args:
            absent: Boolean [n].
        """
        if absent.any():
            self._absent = absent if self._absent is None else self._absent | absent

    @property
    def absent(self) -> pl.Series | None:
        """Boolean [n], or None where every row has a user and an item."""
        return self._absent

    @property
    def bad(self) -> pl.Series | None:
        """Boolean [n], or None where every row fits."""
        return self._bad

    def join(self, others: "Faults") -> None:
        """Takes over the faults of other columns of the same rows.

        Args:
            others: these.
        """
        for bad, reason in others._reasons:
            self.add(bad, reason)

    def first(self, count: int) -> list[tuple[int, str]]:
        """The first bad rows: the number of each, and why it does not fit.

        Args:
            count: how many.
        """
        return [] if self._bad is None else self._first(self._bad, count)

    def _first(self, rows: pl.Series, count: int) -> list[tuple[int, str]]:
        """The first of some bad rows, and why they do not fit."""
        found = []
        for at in rows.arg_true().head(count).to_list():
            reason = next(reason for bad, reason in self._reasons if bad[at])
            found.append((int(self._numbers[at]), reason(at)))
        return found

    def settle(self, skip: bool) -> tuple[pl.Series | None, tuple[str, ...]]:
        """Refuses the file for its bad rows, or tells which rows stay.

        Args:
            skip: whether bad rows are left out.

        Returns:
            Boolean [n], the rows that stay, or None for all; and notes.

        Raises:
            InputError: there are bad rows, and they are not skipped or too many.
        """
        rows = len(self._numbers)
        bad = self._bad
        if self._absent is not None and bad is not None:
            bad = bad & ~self._absent
        stays, notes = self._without_absent()
        if bad is None or not bad.any():
            return stays, notes
        count = int(bad.sum())
        shown = self._first(bad, _SHOWN if skip else 1)
        number, reason = shown[0]
        where = f":{number}" if self._place == "line" else f": {self._place} {number}"
        message = f"{self._path}{where}: {reason}"
        if not skip:
            more = f"{count:,} of {rows:,} rows do not fit; " if count > 1 else ""
            message += f" ({more}--skip-bad-rows leaves {'them' if more else 'such rows'} out)"
            raise InputError(message)
        if 2 * count > rows:
            raise InputError(
                f"{message}; {count:,} of {rows:,} rows do not fit, too many to be skipped: is "
                "this another format?"
            )
        listed = "; ".join(f"{self._place} {number}: {reason}" for number, reason in shown)
        note = f"{count:,} of {rows:,} rows do not fit and are left out: {listed}"
        return (~bad if stays is None else ~bad & stays), (*notes, note)

    def _without_absent(self) -> tuple[pl.Series | None, tuple[str, ...]]:
        """The rows that have a user and an item, None for all, and a note."""
        if self._absent is None:
            return None, ()
        count, rows = int(self._absent.sum()), len(self._absent)
        said = f"{count:,} of {rows:,} rows are without a user or an item and are left out"
        return ~self._absent, (said + REFUSED_BY,)
