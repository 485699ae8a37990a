"""A run on disk: all that resuming, evaluating, serving and extending it need, data files apart.

=========================  ==================================================================
config.json                settings, how the data was made, format version; written first
run.toml                   the flags of the command that made it, if one did: `train --config`
users.parquet, …items…     external ids in row order, and the items' titles
pairs.safetensors          train, valid and test pairs as rows, their weights if they have any, and
                           what else users have seen
metrics.jsonl              a line an epoch and seed; the same bytes after any kill and resume
checkpoints/               the newest two checkpoints
embeddings.safetensors     final user and item embeddings of the best epoch (trained models)
parameters.safetensors     what a model on a graph learnt: its layer-0 embeddings and weights, by
                           which people and things that come later get vectors
model.safetensors          what a closed form needs beyond settings and pairs, or the network that
                           a trained model scores by, if anything
sums.json                  SHA-256 sums of the files of a finished run but pictures
summary.json               the figures; written last, so a run with it is finished
loss.png, metrics.png      curves, where matplotlib is installed; plot.png: what plot drew
.lock                      held by the process that trains the run
=========================  ==================================================================

A closed form has no checkpoints and no curves; its metrics.jsonl has a line a seed, of epoch 0.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from lightgcn_jax.arrays import check_array
from lightgcn_jax.asked import write_asked
from lightgcn_jax.data import CountChange, Pairs, Split
from lightgcn_jax.errors import InputError, naming, naming_refused
from lightgcn_jax.fields import ANYTHING, document, list_of
from lightgcn_jax.files import held, replacing, whole_folder, write_text
from lightgcn_jax.json_files import read_json, read_json_lines, write_json
from lightgcn_jax.paths import refuse_links
from lightgcn_jax.runs.metadata import CLOSED_FORM_SUMMARY, EPOCH, SETTINGS, TRAINED_SUMMARY
from lightgcn_jax.runs.own_objects import in_place_of
from lightgcn_jax.runs.stored_split import (
    STORED,
    pair_arrays,
    read_also_seen,
    read_ids,
    read_parts,
    read_titles,
    reading,
    write_ids,
)
from lightgcn_jax.runs.versions import PACKAGE, versions_here
from lightgcn_jax.settings import Config, flat, from_flat
from lightgcn_jax.settings.registry import own_objects
from lightgcn_jax.sums import Sums, remove_sums, write_last

FORMAT_VERSION = 2
_PARAMS = "parameters.safetensors"


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """A directory that holds one run; see the module for its files.

    Attributes:
        path: the directory.
    """

    path: Path

    @classmethod
    @contextlib.contextmanager
    def creating(
        cls, path: Path, split: Split, config: Config, data: Mapping[str, Any], optimizer: str,
        also_seen: Pairs | None = None,
    ) -> Iterator[RunDirectory]:  # fmt: skip
        """Write what is known before the first step: settings, ids and pairs.

        Everything is written under a temporary name, which becomes ``path`` when the block ends;
        a process killed before that leaves no half-made run.

        Args:
            path: the directory; it may exist where it is empty.
            split: what the run trains and is evaluated on, its rows in training order.
            config: the settings.
            data: JSON value, how the data was made.
            optimizer: as :attr:`optimizer` gives it again.
            also_seen: as :attr:`also_seen` gives them again.

        Yields:
            The run under its temporary name, to put more into.

        Raises:
            InputError: the directory already holds something, or a lambda is among the settings.
        """
        for field, description in own_objects(config).items():
            if "<lambda>" in description:
                raise InputError(
                    f"{field}: expected a function with a name where a run is written, got a "
                    f"lambda, which nothing tells from another; define it by def"
                )
        settings = {
            "format": FORMAT_VERSION,
            "versions": versions_here(),
            "config": flat(config),
            "own": own_objects(config),
            "offset_columns": config.offset_columns,
            "optimizer": optimizer,
            "data": dict(data),
            "split": {name: getattr(split, name) for name in ("description", "notes", "report")},
        }
        with whole_folder(path, "run") as temporary:
            run = cls(temporary)
            write_ids(temporary, split)
            run._write_tensors("pairs", pair_arrays(split, also_seen))
            write_json(temporary / "config.json", settings)
            write_asked(temporary)
            yield run

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Open an existing run.

        Args:
            path: the directory.

        Raises:
            InputError: it is missing, no run, or of another format version.
        """
        path = Path(path)
        if not path.is_dir():
            raise InputError(f"{path}: expected a run directory, there is none")
        if not (path / "config.json").exists():
            raise InputError(f"{path}: expected a run directory, it holds no config.json")
        refuse_links(path)
        run = cls(path)
        found, versions = run._settings.get("format"), run._settings.get("versions")
        if found != FORMAT_VERSION:
            wrote = versions.get(PACKAGE) if isinstance(versions, dict) else None
            raise InputError(
                f"{path}: expected a run of format {FORMAT_VERSION}, got {found!r}; open it with "
                f"the version that wrote it, {PACKAGE} {wrote or 'of an unknown version'}"
            )
        document(path / "config.json", run._settings, SETTINGS)
        return run

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Hold the run for this process; InputError where another one trains it."""
        message = f"{self.path}: another process trains this run; wait for it or stop it"
        return held(self.path, message)

    @cached_property
    def _sums(self) -> Sums:
        return Sums(self.path)

    @cached_property
    def _settings(self) -> dict[str, Any]:
        path = self._sums.checked("config.json")
        return document(path, read_json(path), ANYTHING)

    @cached_property
    def config(self) -> Config:
        """The run's settings; an object of one's own is known by its description alone."""
        return self.config_with()

    def config_with(self, **given: Any) -> Config:
        """The run's settings, with the objects of one's own that it was started with.

        Args:
            given: objects by field: ``model``, ``score``, ``loss``, ``negatives``.

        Raises:
            InputError: the run was not started with such an object, or its settings do not fit.
        """
        stored, trained = self._settings["config"], "loss" in self._settings["config"]
        objects = in_place_of(self.own_objects, given, self.path, is_trained=trained)
        try:
            return from_flat(stored, objects)
        except InputError as error:
            raise InputError(f"{self.path}/config.json: config.{error}") from None

    @property
    def offset_columns(self) -> int:
        """How many of the last columns of the vectors only add to scores."""
        return self._settings["offset_columns"]

    @property
    def own_objects(self) -> dict[str, str]:
        """The descriptions of the objects of one's own that the run was started with, by field."""
        return self._settings["own"]

    def refuse_own_objects(self, what: str, instead: str) -> None:
        """Make sure that the run needs nothing but its directory.

        Args:
            what: what is to be done with the run, ``refitted`` for instance.
            instead: what to do otherwise.

        Raises:
            InputError: the run was started with objects of one's own, its optimizer included.
        """
        own = list(self.own_objects.values())
        own += ["an optimizer of one's own"] if self.optimizer == "custom" else []
        if own:
            raise InputError(
                f"{self.path}: a run can be {what} only where it names all that it was made of; it "
                f"was made with {', '.join(own)}: {instead} instead"
            )

    @property
    def optimizer(self) -> str:
        """``adam``; ``custom``, one given from Python; or ``none``, of a closed form."""
        return self._settings["optimizer"]

    @property
    def data(self) -> dict[str, Any]:
        """How the data was made."""
        return self._settings["data"]

    @cached_property
    def split(self) -> Split:
        """The pairs and id maps that the run trains and is evaluated on."""
        about = self._settings["split"]
        description, notes = about["description"], tuple(about["notes"])
        report = tuple(CountChange(*change) for change in about["report"])
        for file in STORED:
            self._sums.checked(file)
        users, items = (read_ids(self.path, name) for name in ("users", "items"))
        train, valid, test = read_parts(self.path)
        told = description, notes, report, read_titles(self.path)
        with naming(self.path / "pairs.safetensors"):
            return Split(users, items, train, valid, test, *told)

    @cached_property
    def also_seen(self) -> Pairs | None:
        """Pairs that users know beyond the split, and are not recommended: low ratings."""
        users, items = len(self.split.users), len(self.split.items)  # which checks the files' sums
        return read_also_seen(self.path, users, items)

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    def write_metrics(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Replace metrics.jsonl.

        Args:
            history: all its records.
        """
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(one) + "\n" for one in history))

    def append_metrics(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add lines to metrics.jsonl; a torn last line is mended by the next resume.

        Args:
            records: a JSON object a line.
        """
        path = self.path / "metrics.jsonl"
        with naming_refused(path), path.open("a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(record) + "\n" for record in records)

    def history(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl."""
        path = self._sums.checked("metrics.jsonl")
        return document(path, read_json_lines(path), list_of(EPOCH))

    def write_embeddings(self, users: np.ndarray, items: np.ndarray) -> None:
        """Write the final embeddings of the best epoch atomically.

        Args:
            users: ``float32[U, D]``.
            items: ``float32[I, D]``.
        """
        self._write_tensors("embeddings", {"users": users, "items": items})

    def embeddings(self) -> tuple[np.ndarray, np.ndarray]:
        """Final embeddings ``float32[U, D]`` and ``float32[I, D]`` of the best epoch.

        Raises:
            InputError: the run is not finished, or the file is damaged.
        """
        path = self._sums.checked("embeddings.safetensors")
        if not path.exists():
            raise InputError(
                f"{self.path}: expected a finished run, it holds no embeddings yet; resume it first"
            )
        with reading(path, "users and items tensors"):
            tensors = safetensors.numpy.load_file(path)
            users, items = tensors["users"], tensors["items"]
        with naming(path):
            check_array("users", users, (len(self.split.users), None), np.float32)
            check_array("items", items, (len(self.split.items), users.shape[1]), np.float32)
        if users.shape[1] <= self.offset_columns:
            raise InputError(
                f"{path}: expected more than {self.offset_columns} columns, got {users.shape[1]}"
            )
        return users, items

    def write_model(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Write what the model keeps beside embeddings, if anything, atomically.

        Args:
            tensors: arrays by name.
        """
        if tensors:
            self._write_tensors("model", tensors)

    def write_params(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Write what a trained model learnt, where its final vectors don't say it all, atomically.

        Args:
            tensors: arrays by name.
        """
        if tensors:
            self._write_tensors("parameters", tensors)

    def params(self, names: Collection[str]) -> dict[str, np.ndarray] | None:
        """What :meth:`write_params` wrote; None where nothing was, as before there was such a file.

        Args:
            names: the names of all that it should hold.

        Raises:
            InputError: the file is damaged or holds other tensors.
        """
        path = self._sums.checked(_PARAMS)
        return self._tensors("parameters", names) if path.exists() else None

    def _write_tensors(self, name: str, tensors: Mapping[str, np.ndarray]) -> None:
        with replacing(self.path / f"{name}.safetensors") as temporary:
            safetensors.numpy.save_file(dict(tensors), temporary)

    def model(self, names: Collection[str]) -> dict[str, np.ndarray]:
        """What a finished run keeps beside embeddings, by name.

        Args:
            names: the names of all that it should hold.

        Raises:
            InputError: the run is not finished, or the file is damaged or holds other tensors.
        """
        self.finished_summary()
        return self._tensors("model", names) if names else {}

    def _tensors(self, name: str, names: Collection[str]) -> dict[str, np.ndarray]:
        path = self._sums.checked(f"{name}.safetensors")
        with reading(path, "the model's tensors"):
            tensors = safetensors.numpy.load_file(path)
        if set(tensors) != set(names):
            raise InputError(f"{path}: expected {sorted(names)}, got {sorted(tensors)}")
        return tensors

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write the figures; from then on the run counts as finished.

        Args:
            summary: a JSON value.
        """
        write_last(self.path / "summary.json", summary)

    def begin_again(self) -> None:
        """Forget that the run was about to finish, for it goes on."""
        remove_sums(self.path)
        self.__dict__.pop("_sums", None)

    def summary(self) -> dict[str, Any] | None:
        """The figures of a finished run; None before that."""
        if not (self.path / "summary.json").exists():
            return None
        path = self._sums.checked("summary.json")
        is_trained = "loss" in self._settings["config"]
        kind = TRAINED_SUMMARY if is_trained else CLOSED_FORM_SUMMARY
        return document(path, read_json(path), kind)

    def finished_summary(self) -> dict[str, Any]:
        """The figures of a run that has to be finished.

        Raises:
            InputError: it is not.
        """
        summary = self.summary()
        if summary is None:
            told = "expected a finished run, it holds no summary.json; resume it first"
            raise InputError(f"{self.path}: {told}")
        return summary
