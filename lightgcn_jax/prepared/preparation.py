"""What a prepared folder is made of and how: the settings, fixed before the first row is read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from lightgcn_jax.data.feedback import Feedback
from lightgcn_jax.data.readers import Asked
from lightgcn_jax.data.reading import NONE
from lightgcn_jax.data.splits import SplitMethod, Unseen
from lightgcn_jax.data.withholding import check_ratios, check_seed
from lightgcn_jax.errors import InputError

StoredOrdering = Literal["auto", "none", "degree", "dealt"]
"""The order of the rows on top of the canonical one: by falling degree, or dealt out so that
consecutive rows have about as many edges wherever a mesh cuts them; ``auto`` is ``degree`` for
large graphs."""

LEAST_MEMORY = 256_000_000
_UNITS = {"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_FORMATS = ("auto", "csv", "tsv", "parquet", "movielens", "hetrec", "triples")

# Bytes that a row takes at the height of the work: while it is judged, and while it is sorted.
_JUDGED, _SORTED = 400, 160
# More rows at once save no time, and what a kill undoes stays small.
_MOST_JUDGED = 1 << 22
_LEAST_ROWS = 1 << 12


@dataclass(frozen=True)
class Preparation:
    """Settings of a preparation.

    Attributes:
        sources: files and folders, read as one log or one split each.
        reading: options of :func:`lightgcn_jax.data.read_interactions` by name.
        split: how interactions are split; None as :data:`SplitMethod` says.
        shares: of train, valid and test.
        leave_k: interactions of each user that leave-k-out withholds for each part.
        split_seed: of the draws.
        unseen: what becomes of withheld pairs that name what no training interaction names.
        min_rating: the least rating of a positive; None takes every row as one.
        feedback: whether rows are ratings or events; None guesses.
        ordering: the order of the rows.
        memory: bytes that the work may take beside the program itself.
    """

    sources: Sequence[Path | str]
    reading: Mapping[str, Any] = field(default_factory=dict)
    split: SplitMethod | None = None
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    leave_k: int = 1
    split_seed: int = 0
    unseen: Unseen = "keep"
    min_rating: float | None = None
    feedback: Feedback | None = None
    ordering: StoredOrdering = "auto"
    memory: int = 8_000_000_000

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(map(Path, self.sources)))
        if not self.sources:
            raise InputError("sources: expected a file or a folder, got none")
        check_ratios(*self.shares)
        check_seed(self.split_seed)
        if self.leave_k < 1:
            raise InputError(f"leave_k: expected an integer of 1 or more, got {self.leave_k}")
        for name, kind in (
            ("split", SplitMethod),
            ("feedback", Feedback),
            ("unseen", Unseen),
            ("ordering", StoredOrdering),
        ):
            if getattr(self, name) not in (None, *get_args(kind)):
                known = ", ".join(get_args(kind))
                raise InputError(f"{name}: expected one of {known}, got {getattr(self, name)!r}")
        if self.memory < LEAST_MEMORY:
            raise InputError(
                f"memory: expected {LEAST_MEMORY:,} bytes or more, got {self.memory:,}"
            )
        if self.reading.get("weight_column") not in (None, NONE):
            raise InputError(
                "weight_column: a prepared folder keeps no weights; leave it out, or train from "
                "the files"
            )
        if self.unseen != "keep" and self.split in ("ratio", "leave-k-out"):
            raise InputError(
                f"unseen: belongs to given and temporal splits, got split {self.split}"
            )
        if self.asked.format not in _FORMATS:
            raise InputError(
                f"format: expected Parquet tables or text with a row for each interaction "
                f"({', '.join(_FORMATS[1:])}), got {self.asked.format}"
            )

    @property
    def asked(self) -> Asked:
        """The options of reading, without columns that nothing is made of."""
        given = dict(self.reading)
        wants_times = self.split in ("leave-k-out", "temporal", "temporal-per-user")
        if not (wants_times or self.min_rating is not None):
            given["timestamp_column"] = given.get("timestamp_column") or NONE
        if self.min_rating is None:
            given["rating_column"] = given.get("rating_column") or NONE
        return Asked.of(**given)

    @property
    def rows_judged(self) -> int:
        """Rows of a file that are judged at once."""
        return max(_LEAST_ROWS, min(_MOST_JUDGED, self.memory // _JUDGED))

    @property
    def rows_sorted(self) -> int:
        """Rows that are sorted at once."""
        return max(_LEAST_ROWS, self.memory // _SORTED)

    def record(self) -> dict[str, Any]:
        """What the outcome depends on, as a JSON value; memory has no say in it."""
        values = asdict(self)
        del values["sources"], values["memory"]
        values["shares"] = list(self.shares)
        values["reading"] = {name: one for name, one in self.reading.items() if one is not None}
        return values


def bytes_of(text: str) -> int:
    """Bytes as people write them: ``8GB``, ``512 MB``, ``1e9``.

    Args:
        text: a number, perhaps with a unit.

    Raises:
        InputError: it is no amount of memory.
    """
    found = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kmgt]?b?)\s*", text.lower())
    unit = found and found.group(2).upper()
    unit = f"{unit}B" if unit and not unit.endswith("B") else unit
    try:
        assert found is not None
        return int(float(found.group(1)) * _UNITS[unit or ""])
    except (AssertionError, ValueError, OverflowError):
        raise InputError(f"memory: expected an amount such as 8GB or 512MB, got {text!r}") from None
