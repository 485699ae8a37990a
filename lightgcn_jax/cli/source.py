"""The flags that say where interactions come from and how they are split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from lightgcn_jax.data import (
    FORMATS,
    Interactions,
    Split,
    Unseen,
    given_split,
    leave_k_out_split,
    load_dataset,
    ratio_split,
    read_interactions,
    temporal_split,
)
from lightgcn_jax.errors import InputError

SplitMethod = Literal["given", "ratio", "leave-k-out", "temporal", "temporal-per-user"]
Text = Annotated[str | None, tyro.conf.arg(metavar="STR", help_behavior_hint="")]
Folder = Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")]
_SPLIT_METAVAR = "{given,ratio,leave-k-out,temporal,temporal-per-user}"


@dataclass(frozen=True)
class FileFormat:
    """How to read a user's file.

    Attributes:
        format: format of the files; `auto` goes by names and first lines.
        user_column: name of the column of user ids; the usual names are found without it.
        item_column: name of the column of item ids.
        rating_column: name of the column of ratings.
        timestamp_column: name of the column of times.
        separator: what stands between fields, where it is not the format's own.
    """

    format: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(("auto", *FORMATS)) + "}")] = "auto"
    user_column: Text = None
    item_column: Text = None
    rating_column: Text = None
    timestamp_column: Text = None
    separator: Text = None

    def refuse(self, why: str) -> None:
        """Refuse these flags where nothing is read by them.

        Args:
            why: why nothing is, for the message.

        Raises:
            InputError: one of them was given.
        """
        for field in fields(self):
            if getattr(self, field.name) != field.default:
                flag = "--" + field.name.replace("_", "-")
                raise InputError(f"{flag}: says how to read a file, but {why}")

    def read(self, path: Path) -> Interactions:
        """The interactions of a file or a folder.

        Args:
            path: the file or the folder.
        """
        return read_interactions(path, **asdict(self))


@dataclass(frozen=True)
class Source:
    """Where interactions come from, and how they are split.

    Attributes:
        dataset: a data set by name; see `lightgcn-jax data list`.
        data: a file or a folder of your own.
        file_format: how to read it.
        min_rating: keep interactions rated at least this; data sets of ratings have their own.
        k_core: keep the part in which every user and every item has at least K interactions.
        split: `given` by the files; `ratio` takes random shares of each user, `leave-k-out` K
            interactions of each; `temporal` cuts all at one moment, `temporal-per-user` each
            user's history.
        shares: shares of train, valid and test, for the ratio and temporal splits.
        leave_k: interactions of each user that leave-k-out withholds for valid and for test.
        split_seed: seed of the random splits.
        unseen: what becomes of withheld pairs (given and temporal splits) whose user or item no
            training interaction names.
        data_dir: folder with one folder for each data set.
        download: fetch a data set that is not there.
    """

    dataset: Annotated[
        str | None,
        tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: synthetic, a generated world)"),
    ] = None
    data: Annotated[Path | None, tyro.conf.arg(metavar="FILE-OR-FOLDER", help_behavior_hint="")] = (
        None
    )
    file_format: Annotated[FileFormat, tyro.conf.arg(name="")] = FileFormat()
    min_rating: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")] = (
        None
    )
    k_core: Annotated[int | None, tyro.conf.arg(metavar="K", help_behavior_hint="")] = None
    split: Annotated[
        SplitMethod | None,
        tyro.conf.arg(
            metavar=_SPLIT_METAVAR,
            help_behavior_hint="(default: given where the files give one, else ratio)",
        ),
    ] = None
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    leave_k: int = 1
    split_seed: int = 0
    unseen: Unseen = "keep"
    data_dir: Folder = None
    download: bool = True

    @property
    def name(self) -> str:
        """What a run on these data is called."""
        return self.dataset or (self.data.resolve().stem if self.data else "synthetic")

    @property
    def is_default(self) -> bool:
        """Whether no flag of these was given."""
        return self == Source()

    def interactions(self) -> Interactions:
        """De-duplicated and filtered interactions.

        Raises:
            InputError: the flags contradict each other, or the data do not fit.
        """
        if self.data is None:
            interactions = self._load()
        elif self.dataset is not None:
            raise InputError("expected --dataset or --data, got both")
        else:
            interactions = self.file_format.read(self.data).deduplicated()
        if self.min_rating is not None:
            interactions = interactions.with_min_rating(self.min_rating)
        if self.k_core is not None:
            interactions = interactions.with_k_core(self.k_core, self.k_core)
        return interactions

    def _load(self) -> Interactions:
        self.file_format.refuse("there is no --data")
        return load_dataset(
            self.dataset or "synthetic",
            data_dir=self.data_dir,
            download=self.download,
            apply_threshold=self.min_rating is None,
        )

    def split_up(self, interactions: Interactions, *, allow_empty: bool = False) -> Split:
        """The interactions under the split asked for.

        Args:
            interactions: what to split.
            allow_empty: whether the ratio split may leave a part empty.

        Raises:
            InputError: the split does not fit the interactions.
        """
        method = self.split or ("ratio" if interactions.parts is None else "given")
        if self.unseen != "keep" and method in ("ratio", "leave-k-out"):
            raise InputError(f"--unseen: belongs to given and temporal splits, got split {method}")
        splits: dict[str, Callable[[], Split]] = {
            "given": lambda: given_split(interactions, self.unseen),
            "ratio": lambda: ratio_split(
                interactions, *self.shares, seed=self.split_seed, allow_empty=allow_empty
            ),
            "leave-k-out": lambda: leave_k_out_split(
                interactions, self.leave_k, seed=self.split_seed
            ),
            "temporal": lambda: temporal_split(interactions, *self.shares, unseen=self.unseen),
            "temporal-per-user": lambda: temporal_split(
                interactions, *self.shares, per_user=True, unseen=self.unseen
            ),
        }
        return splits[method]()

    def record(self) -> dict[str, Any]:
        """What was given, as a JSON value, for the run to remember."""
        given = {"dataset": self.name} if self.data is None else {"data": str(self.data.resolve())}
        skipped = ("dataset", "data", "file_format", "data_dir", "download")
        values = {key: value for key, value in asdict(self).items() if key not in skipped}
        return given | {
            key: value
            for key, value in (asdict(self.file_format) | values).items()
            if value is not None
        }
