"""A sweep on disk: what is tried, what came of it, and all that resuming needs.

=====================  ==========================================================================
sweep.json             format version, what is swept, the trials, which of them train together
split/                 the base settings, ids and pairs, as in a run directory
trials.jsonl           a line a finished trial, replaced as a whole when a group ends
groups/NNN/            checkpoints of the trials under way; curves and metrics.jsonl stay
sweep.png              where matplotlib is installed
best/, best-refit/     the runs of the best trial
.lock                  held by the process that sweeps
=====================  ==========================================================================
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from lightgcn_jax.data.pairs import PARTS
from lightgcn_jax.data.splits import Split
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import locked, read_json, whole_folder, write_json, write_text
from lightgcn_jax.runs.directory import RunDirectory
from lightgcn_jax.runs.summary import seed_statistics
from lightgcn_jax.sweeps.space import SweepConfig, Trial, groups_of, trials_of

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class TrialResult:
    """What came of a trial.

    Attributes:
        trial: its number.
        settings: those that the sweep chose.
        protocol_note: what the figures mean.
        seeds: for each seed ``seed``, ``best_epoch`` (0 for a closed form), and the metrics of
            each ranked part; none of a diverged trial.
        seconds: its share of the time of those that trained together.
        diverged: what happened, where the loss was no longer finite.
    """

    trial: int
    settings: dict[str, Any]
    protocol_note: str
    seeds: list[dict[str, Any]]
    seconds: float | None = None
    diverged: str | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that were ranked."""
        return tuple(part for part in PARTS if self.seeds and self.seeds[0].get(part))

    def spread(self, part: str, metric: str) -> dict[str, float]:
        """Mean over the seeds, with ``ci95_half_width`` where there are several."""
        return seed_statistics([seed[part][metric] for seed in self.seeds])


@dataclasses.dataclass(frozen=True)
class SweepDirectory:
    """A directory that holds one sweep; see the module for its files."""

    path: Path

    @classmethod
    def create(
        cls, path: Path, split: Split, config: SweepConfig, data: Mapping[str, Any]
    ) -> SweepDirectory:
        """Write what is known before the first trial, all at once.

        Raises:
            InputError: the directory already holds something.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(
                f"{path}: expected a new or empty directory, it already holds something; "
                f"go on with a sweep by resuming it, or choose another name"
            )
        groups = groups_of(
            config.combinations,
            together=config.together,
            num_nodes=len(split.users) + len(split.items),
            num_edges=len(split.train),
        )
        with whole_folder(path) as temporary:
            with RunDirectory.creating(temporary / "split", split, config.base, data, "none"):
                pass
            write_json(
                temporary / "sweep.json",
                {
                    "format": FORMAT_VERSION,
                    "data": dict(data),
                    "values": {name: list(values) for name, values in config.values.items()},
                    "ranges": {
                        name: dataclasses.asdict(drawn) for name, drawn in config.ranges.items()
                    },
                    "seed": config.seed,
                    "metric": config.metric,
                    "study": config.study,
                    "train_best": config.trains_best,
                    "refit": config.refit,
                    "trials": [trial.settings for trial in config.combinations],
                    "groups": groups,
                },
            )
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> SweepDirectory:
        """Open an existing sweep.

        Raises:
            InputError: it is missing, no sweep, or of another format version.
        """
        if not (path / "sweep.json").exists():
            raise InputError(f"{path}: expected the directory of a sweep, it holds no sweep.json")
        directory = cls(path)
        found = directory.plan.get("format") if isinstance(directory.plan, dict) else None
        if found != FORMAT_VERSION:
            raise InputError(f"{path}: expected a sweep of format {FORMAT_VERSION}, got {found!r}")
        return directory

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Hold the sweep for this process; InputError where another one has it."""
        message = f"{self.path}: another process runs this sweep; wait for it or stop it"
        return locked(self.path / ".lock", message)

    @cached_property
    def plan(self) -> dict[str, Any]:
        """The content of sweep.json."""
        return read_json(self.path / "sweep.json")

    @cached_property
    def start(self) -> RunDirectory:
        """The base settings, where the data came from, and the split."""
        return RunDirectory.open(self.path / "split")

    @cached_property
    def trials(self) -> tuple[Trial, ...]:
        """Every trial, by number."""
        chosen = [_with_tuples(settings) for settings in self.plan["trials"]]
        return trials_of(self.start.config, chosen, self.plan["metric"])

    def group(self, index: int, trial: int | None = None) -> Path:
        """The folder of a group, or of one of its trials that trains alone."""
        name = f"{index:03d}" if trial is None else f"{index:03d}-trial-{trial}"
        return self.path / "groups" / name

    def results(self) -> dict[int, TrialResult]:
        """What is finished, by trial."""
        path = self.path / "trials.jsonl"
        if not path.exists():
            return {}
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            results = [TrialResult(**json.loads(line)) for line in lines]
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: expected a trial a line, got {error}") from None
        return {
            result.trial: dataclasses.replace(result, settings=_with_tuples(result.settings))
            for result in results
        }

    def write_results(self, results: Mapping[int, TrialResult]) -> None:
        """Replace trials.jsonl."""
        lines = [json.dumps(dataclasses.asdict(results[trial])) for trial in sorted(results)]
        write_text(self.path / "trials.jsonl", "".join(f"{line}\n" for line in lines))


def _with_tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings from JSON, which knows lists alone."""
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
