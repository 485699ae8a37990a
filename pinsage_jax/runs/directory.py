"""A PinSAGE run on disk: everything to resume it, evaluate it, serve it and add items to it.

=========================  ==================================================================
config.json                settings, how the data was made, format version; written first
run.toml                   the flags of the command that made it, if one did: `train --config`
items.parquet, contexts…   external ids in row order
memberships.parquet        all that contexts hold, what is held out included
columns.parquet            the items' raw feature columns; columns.json tells the kind of each
task.safetensors           training edges, pairs and held-out pairs as rows
schema.json                how features are encoded, with the statistics of the training items
metrics.jsonl              a line an epoch
checkpoints/               the newest two checkpoints
structure.safetensors      what items' structure is made of, where the encoder reads it
model.safetensors          the parameters of the best epoch
vectors/                   layer-0.npy … of all items; the last one holds their vectors
fresh/                     items that were added later, if any
sums.json                  SHA-256 sums of the files of a finished run but pictures
summary.json               the figures; written last, so a run with it is finished
.lock                      held by the process that trains the run
=========================  ==================================================================
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
import polars as pl
import safetensors
import safetensors.numpy

from lightgcn_jax.asked import write_asked
from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.parquet_files import read_parquet
from lightgcn_jax.errors import InputError, naming
from lightgcn_jax.fields import ANYTHING, document, list_of
from lightgcn_jax.files import held, replacing, whole_folder, write_text
from lightgcn_jax.json_files import read_json, read_json_lines, write_json
from lightgcn_jax.paths import refuse_links
from lightgcn_jax.runs.metadata import EPOCH
from lightgcn_jax.sums import Sums, remove_sums, write_last
from pinsage_jax.config import PinSageConfig
from pinsage_jax.features.schema import FeatureSchema
from pinsage_jax.runs.metadata import SETTINGS, SUMMARY

FORMAT_VERSION = 3
_SEPARATOR = "/"
# Settings that runs of this format may lack.
_LATER = {"ks", "select_by"}


@dataclasses.dataclass(frozen=True)
class PinSageRun:
    """A directory that holds one run; the module lists its files.

    Attributes:
        path: the directory.
    """

    path: Path

    @classmethod
    @contextlib.contextmanager
    def creating(cls, path: Path) -> Iterator[PinSageRun]:
        """Make a run under a temporary name, which becomes ``path`` when the block ends.

        Args:
            path: the new directory.

        Raises:
            InputError: the directory already holds something.
        """
        with whole_folder(path, "run") as temporary:
            write_asked(temporary)
            yield cls(temporary)

    @classmethod
    def open(cls, path: Path) -> PinSageRun:
        """Open an existing run.

        Args:
            path: its directory.

        Raises:
            InputError: it is no run, or has another format version.
        """
        run = cls(Path(path))
        if not (run.path / "config.json").is_file():
            raise InputError(f"{path}: expected a run directory, config.json is missing")
        refuse_links(run.path)
        version = run.record.get("format")
        if version != FORMAT_VERSION:
            raise InputError(
                f"{path}/config.json: expected format {FORMAT_VERSION}, got {version!r}; train "
                "again, or open the run with the version that wrote it"
            )
        document(run.path / "config.json", run.record, SETTINGS)
        return run

    def held(self) -> contextlib.AbstractContextManager[None]:
        """Hold the run for this process while it trains or gets new items."""
        return held(self.path, f"{self.path}: another process is at work on this run")

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def vectors(self) -> Path:
        """The folder of the layers and vectors of all items."""
        return self.path / "vectors"

    @property
    def fresh(self) -> Path:
        """The folder of items that were added later."""
        return self.path / "fresh"

    @cached_property
    def sums(self) -> Sums:
        """The sums of the files of a finished run."""
        return Sums(self.path)

    @property
    def record(self) -> dict[str, Any]:
        """The contents of config.json."""
        path = self.sums.checked("config.json")
        return document(path, read_json(path), ANYTHING)

    @property
    def config(self) -> PinSageConfig:
        """The settings that the run was started with.

        Raises:
            InputError: a setting is missing, unknown or does not fit.
        """
        given = self.record["config"]
        known = {field.name for field in dataclasses.fields(PinSageConfig)}
        # Runs of earlier versions have their defaults.
        if odd := sorted(known.symmetric_difference(given) - (_LATER - given.keys())):
            raise InputError(f"{self.path}/config.json: missing or unknown settings: {odd}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in given.items()
        }
        with reading(self.path / "config.json"):
            return PinSageConfig(**values)

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended."""
        return (self.path / "summary.json").is_file()

    @property
    def summary(self) -> dict[str, Any]:
        """The figures of a finished run."""
        if not self.is_finished:
            raise InputError(
                f"{self.path}: the run is not finished, it holds no summary.json; go on with "
                "pinsage-jax train --resume, or end it where it is with --finish beside that"
            )
        path = self.sums.checked("summary.json")
        return document(path, read_json(path), SUMMARY)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write the figures; from then on the run counts as finished.

        Args:
            summary: a JSON value.
        """
        write_last(self.path / "summary.json", summary)

    def begin_again(self) -> None:
        """Forget that the run was about to finish, for it goes on."""
        remove_sums(self.path)
        self.__dict__.pop("sums", None)

    def write_config(
        self, config: PinSageConfig, data: Mapping[str, Any], notes: tuple[str, ...]
    ) -> None:
        """Write config.json.

        Args:
            config: the settings.
            data: how the data was made, as a JSON value.
            notes: lines worth telling a user.
        """
        write_json(
            self.path / "config.json",
            {
                "format": FORMAT_VERSION,
                "config": dataclasses.asdict(config),
                "data": dict(data),
                "notes": list(notes),
            },
        )

    def write_ids(self, name: str, ids: IdMap) -> None:
        """Write external ids in row order.

        Args:
            name: ``items`` or ``contexts``.
            ids: the ids.
        """
        with replacing(self.path / f"{name}.parquet") as temporary:
            pl.DataFrame({"id": ids.ids}).write_parquet(temporary)

    def read_ids(self, name: str) -> IdMap:
        """Read external ids.

        Args:
            name: ``items`` or ``contexts``.

        Raises:
            InputError: the file is missing or damaged.
        """
        path = self.sums.checked(f"{name}.parquet")
        frame = read_parquet(path)
        if frame.columns != ["id"]:
            raise InputError(f"{path}: expected one column, 'id', got {frame.columns}")
        with naming(path):
            return IdMap(frame["id"])

    def write_schema(self, schema: FeatureSchema) -> None:
        """Write how features are encoded.

        Args:
            schema: the schema.
        """
        write_json(self.path / "schema.json", schema.as_json())

    def read_schema(self) -> FeatureSchema:
        """Read how features are encoded."""
        path = self.sums.checked("schema.json")
        with reading(path):
            return FeatureSchema.from_json(read_json(path))

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays as one safetensors file.

        Args:
            name: the file's name without its ending.
            arrays: the arrays by name.
        """
        whole = {key: np.asarray(array, order="C") for key, array in arrays.items()}
        with replacing(self.path / f"{name}.safetensors") as temporary:
            safetensors.numpy.save_file(whole, temporary)

    def read_arrays(self, name: str) -> dict[str, np.ndarray]:
        """Read the arrays of a safetensors file.

        Args:
            name: the file's name without its ending.
        """
        return read_tensors(self.sums.checked(f"{name}.safetensors"))

    def write_params(self, params: Any) -> None:
        """Write the parameters of the best epoch.

        Args:
            params: a nested dictionary of arrays.
        """
        flat = {name: np.asarray(leaf) for name, leaf in _flat(params).items()}
        self.write_arrays("model", flat)

    def read_params(self, template: Any) -> Any:
        """Read the parameters of the best epoch.

        Args:
            template: the structure and shapes that are expected.

        Raises:
            InputError: the file is missing or holds other arrays.
        """
        path = self.sums.checked("model.safetensors")
        given = read_tensors(path)
        wanted = _flat(template)
        for name in sorted(wanted.keys() | given.keys()):
            shapes = [list(one[name].shape) if name in one else None for one in (wanted, given)]
            if shapes[0] != shapes[1]:
                raise InputError(f"{path}: {name}: expected shape {shapes[0]}, got {shapes[1]}")
            if given[name].dtype != wanted[name].dtype or not np.isfinite(given[name]).all():
                raise InputError(
                    f"{path}: {name}: expected finite numbers of {wanted[name].dtype}, got others "
                    f"or {given[name].dtype}"
                )
        return _shaped_like(template, {name: jax.device_put(one) for name, one in given.items()})

    def append_metrics(self, records: list[dict[str, Any]]) -> None:
        """Write all epochs so far, a line each, so that a resumed run repeats none.

        Args:
            records: the epochs.
        """
        lines = "".join(json.dumps(record) + "\n" for record in records)
        write_text(self.path / "metrics.jsonl", lines)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Read all epochs so far."""
        path = self.sums.checked("metrics.jsonl")
        if not path.exists():
            return []
        return document(path, read_json_lines(path), list_of(EPOCH))


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Name the file in whatever goes wrong while its contents are put together.

    Args:
        path: the file, which a run wrote; whoever reads it checks what can be checked.

    Raises:
        InputError: in place of an error of any kind.
    """
    with naming(path):
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # what a damaged file holds can be wrong in any way
            raise InputError(f"{path}: expected what a run writes there; it is damaged") from error


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a safetensors file.

    Args:
        path: the file.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        return safetensors.numpy.load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path}: expected this file, it is missing") from None
    except safetensors.SafetensorError as error:
        raise InputError(
            f"{path}: expected safetensors, got a file that is damaged or cut off"
        ) from error


def _flat(params: Any, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in params.items():
        inner = {prefix + name: value} if not isinstance(value, Mapping) else None
        flat |= inner if inner is not None else _flat(value, f"{prefix}{name}{_SEPARATOR}")
    return flat


def _shaped_like(template: Any, flat: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Undo :func:`_flat`. The template tells where names end, for a feature's may hold a "/"."""
    return {
        name: _shaped_like(value, flat, f"{prefix}{name}{_SEPARATOR}")
        if isinstance(value, Mapping)
        else flat[prefix + name]
        for name, value in template.items()
    }
