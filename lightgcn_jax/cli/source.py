"""The flags that say where interactions come from and how they are split."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from lightgcn_jax.cli.settings import flag
from lightgcn_jax.data import FORMATS, Interactions, load_dataset, read_interactions, splits
from lightgcn_jax.errors import InputError

SplitMethod = Literal["given", "ratio", "leave-k-out", "temporal", "temporal-per-user"]
Text = Annotated[str | None, flag("STR")]
Folder = Annotated[Path | None, flag("FOLDER")]
_SPLITS = "{given,ratio,leave-k-out,temporal,temporal-per-user}"


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
        split_seed: seed of the random splits, and of the order of interactions at one moment.
        unseen: what becomes of withheld pairs (given and temporal splits) whose user or item no
            training interaction names.
        data_dir: folder with one folder for each data set.
        download: fetch a data set that is not there.
    """

    dataset: Annotated[str | None, flag("NAME", "(default: synthetic, a generated world)")] = None
    data: Annotated[Path | None, flag("FILE-OR-FOLDER")] = None
    file_format: Annotated[FileFormat, tyro.conf.arg(name="")] = FileFormat()
    min_rating: Annotated[float | None, flag("FLOAT")] = None
    k_core: Annotated[int | None, flag("K")] = None
    split: Annotated[
        SplitMethod | None, flag(_SPLITS, "(default: given where the files give one, else ratio)")
    ] = None
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    leave_k: int = 1
    split_seed: int = 0
    unseen: splits.Unseen = "keep"
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
            self.file_format.refuse("there is no --data")
            interactions = load_dataset(
                self.name,
                data_dir=self.data_dir,
                download=self.download,
                apply_threshold=self.min_rating is None,
            )
        elif self.dataset is not None:
            raise InputError("expected --dataset or --data, got both")
        else:
            interactions = self.file_format.read(self.data).deduplicated()
        if self.min_rating is not None:
            interactions = interactions.with_min_rating(self.min_rating)
        if self.k_core is not None:
            interactions = interactions.with_k_core(self.k_core, self.k_core)
        return interactions

    def split_up(self, interactions: Interactions, *, allow_empty: bool = False) -> splits.Split:
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
        shares, seed, unseen = self.shares, self.split_seed, self.unseen
        if method == "given":
            return splits.given_split(interactions, unseen)
        if method == "ratio":
            return splits.ratio_split(interactions, *shares, seed=seed, allow_empty=allow_empty)
        if method == "leave-k-out":
            return splits.leave_k_out_split(interactions, self.leave_k, seed=seed)
        per_user = method == "temporal-per-user"
        return splits.temporal_split(
            interactions, *shares, per_user=per_user, unseen=unseen, seed=seed
        )

    def record(self) -> dict[str, Any]:
        """What was given, as a JSON value, for the run to remember."""
        given = {"dataset": self.name} if self.data is None else {"data": str(self.data.resolve())}
        values = asdict(self)
        values = values.pop("file_format") | values
        for name in ("dataset", "data", "data_dir", "download"):
            del values[name]
        return given | {name: value for name, value in values.items() if value is not None}
