"""A run on disk: everything needed to resume, judge, serve and extend it, without the data files.

=========================  ==================================================================
config.json                settings, how the data was made, format version; written first
users.parquet, …items…     external ids in row order
pairs.npz                  train, valid and test pairs as rows
metrics.jsonl              a line an epoch and seed; the same bytes after any kill and resume
checkpoints/               the newest two checkpoints
embeddings.safetensors     final user and item embeddings of the best epoch
summary.json               the figures; written last, so a run with it is finished
loss.png, metrics.png      curves, where matplotlib is installed
=========================  ==================================================================
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import safetensors
import safetensors.numpy

from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.interactions import CountChange
from lightgcn_jax.data.splits import Pairs, Split
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import read_json, replacing, write_json, write_text
from lightgcn_jax.training.config import TrainConfig

FORMAT_VERSION = 1
_PARTS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """A directory that holds one run; see the module for its files."""

    path: Path

    @classmethod
    def create(
        cls, path: Path, split: Split, config: TrainConfig, data: Mapping[str, Any], optimizer: str
    ) -> RunDirectory:
        """Write what is known before the first step: settings, ids and pairs.

        Raises:
            InputError: the directory already holds something.
        """
        path = Path(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(
                f"{path}: expected a new or empty directory, it already holds something; "
                f"go on with a run by resuming it, or choose another name"
            )
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path)
        for name, ids in (("users", split.users), ("items", split.items)):
            with replacing(path / f"{name}.parquet") as temporary:
                pl.DataFrame({"id": ids.ids}).write_parquet(temporary)
        pairs = {}
        for part in _PARTS:
            rows: Pairs = getattr(split, part)
            pairs |= {f"{part}_users": rows.users, f"{part}_items": rows.items}
        with replacing(path / "pairs.npz") as temporary, temporary.open("wb") as stream:
            np.savez(stream, **pairs)
        # Last of these, and before the first step: a directory with it can be resumed.
        write_json(
            path / "config.json",
            {
                "format": FORMAT_VERSION,
                "versions": _versions(),
                "config": dataclasses.asdict(config),
                "optimizer": optimizer,
                "data": dict(data),
                "split": {
                    "description": split.description,
                    "notes": list(split.notes),
                    "report": [list(change) for change in split.report],
                },
            },
        )
        return run

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Open an existing run.

        Raises:
            InputError: it is missing, no run, or of another format version.
        """
        path = Path(path)
        if not path.is_dir():
            raise InputError(f"{path}: expected a run directory, there is none")
        if not (path / "config.json").exists():
            raise InputError(f"{path}: expected a run directory, it holds no config.json")
        run = cls(path)
        found = run._settings.get("format")
        if found != FORMAT_VERSION:
            raise InputError(
                f"{path}: expected a run of format {FORMAT_VERSION}, got {found!r}; "
                f"open it with the version that wrote it "
                f"({run._settings.get('versions', {}).get('lightgcn-pinsage-jax', 'unknown')})"
            )
        return run

    @cached_property
    def _settings(self) -> dict[str, Any]:
        settings = read_json(self.path / "config.json")
        if not isinstance(settings, dict):
            raise InputError(f"{self.path / 'config.json'}: expected a JSON object")
        return settings

    @cached_property
    def config(self) -> TrainConfig:
        """The run's settings."""
        known = {field.name for field in dataclasses.fields(TrainConfig)}
        stored = self._settings.get("config")
        if not isinstance(stored, dict) or set(stored) != known:
            raise InputError(
                f"{self.path / 'config.json'}: config: expected the fields {sorted(known)}"
            )
        lists = {name: tuple(value) for name, value in stored.items() if isinstance(value, list)}
        return TrainConfig(**{**stored, **lists})

    @property
    def optimizer(self) -> str:
        """``adam``, or ``custom`` for a transformation given from Python."""
        return self._settings["optimizer"]

    @property
    def data(self) -> dict[str, Any]:
        """How the data was made."""
        return self._settings["data"]

    @cached_property
    def split(self) -> Split:
        """The pairs and id maps that the run trains and is judged on."""
        about = self._settings["split"]
        return Split(
            users=self._ids("users"),
            items=self._ids("items"),
            description=about["description"],
            notes=tuple(about["notes"]),
            report=tuple(CountChange(*change) for change in about["report"]),
            **self._pairs(),
        )

    def _ids(self, name: str) -> IdMap:
        path = self.path / f"{name}.parquet"
        try:
            return IdMap(pl.read_parquet(path)["id"])
        except (OSError, pl.exceptions.PolarsError) as error:
            raise InputError(f"{path}: expected a Parquet file of ids, got {error}") from None

    def _pairs(self) -> dict[str, Pairs]:
        path = self.path / "pairs.npz"
        try:
            with np.load(path, allow_pickle=False) as stored:
                return {
                    part: Pairs(stored[f"{part}_users"], stored[f"{part}_items"]) for part in _PARTS
                }
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"{path}: expected train, valid and test pairs, got {error}") from None

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    def write_metrics(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Replace metrics.jsonl by the whole history."""
        lines = "".join(json.dumps(record) + "\n" for record in history)
        write_text(self.path / "metrics.jsonl", lines)

    def append_metrics(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add lines to metrics.jsonl; a torn last line is mended by the next resume."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(record) + "\n" for record in records)

    def history(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl."""
        path = self.path / "metrics.jsonl"
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            return [json.loads(line) for line in lines]
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: expected a JSON object a line, got {error}") from None

    def write_embeddings(self, users: np.ndarray, items: np.ndarray) -> None:
        """Write ``float32[U, D]`` and ``float32[I, D]`` atomically."""
        with replacing(self.path / "embeddings.safetensors") as temporary:
            safetensors.numpy.save_file({"users": users, "items": items}, temporary)

    def embeddings(self) -> tuple[np.ndarray, np.ndarray]:
        """Final embeddings ``float32[U, D]`` and ``float32[I, D]`` of the best epoch.

        Raises:
            InputError: the run is not finished, or the file is damaged.
        """
        path = self.path / "embeddings.safetensors"
        if not path.exists():
            raise InputError(
                f"{self.path}: expected a finished run, it holds no embeddings yet; resume it first"
            )
        try:
            tensors = safetensors.numpy.load_file(path)
            users, items = tensors["users"], tensors["items"]
        except (OSError, KeyError, safetensors.SafetensorError) as error:
            raise InputError(f"{path}: expected users and items tensors, got {error}") from None
        if len(users) != len(self.split.users) or len(items) != len(self.split.items):
            raise InputError(
                f"{path}: expected {len(self.split.users)} users and {len(self.split.items)} "
                f"items, got {len(users)} and {len(items)}"
            )
        return users, items

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write the figures; from then on the run counts as finished."""
        write_json(self.path / "summary.json", summary)

    def summary(self) -> dict[str, Any] | None:
        """The figures of a finished run; None before that."""
        path = self.path / "summary.json"
        return read_json(path) if path.exists() else None


def _versions() -> dict[str, str]:
    names = ("lightgcn-pinsage-jax", "jax", "jaxlib", "flax", "optax", "numpy")
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions
