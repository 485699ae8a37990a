"""A sweep on disk: what is tried, what came of it, and all that resuming needs.

=====================  ==========================================================================
sweep.json             format version and what is tried
split/                 ids, pairs and where they came from, as in a run directory, beside the
                       settings of one trial
optuna.log             the study ``sweep`` of an Optuna ``JournalFileBackend``: every trial's
                       settings, its group, and what came of it
groups/NNN/            checkpoints of the trials under way, by the first of those that train
                       together; curves and metrics.jsonl stay
sweep.png              where matplotlib is installed
best/, best-refit/     the runs of the best trial
.lock                  held by the process that sweeps
=====================  ==========================================================================
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from lightgcn_jax.data.pairs import PARTS
from lightgcn_jax.data.splits import Split
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import locked, read_json, whole_folder, write_json
from lightgcn_jax.graph.bipartite import BipartiteGraph, training_graph
from lightgcn_jax.runs.directory import RunDirectory
from lightgcn_jax.runs.summary import seed_statistics
from lightgcn_jax.settings.config import Config
from lightgcn_jax.sweeps.groups import groups_of
from lightgcn_jax.sweeps.space import Range, SweepConfig, parameter, quiet_optuna

FORMAT_VERSION = 2
NOTES = {
    False: "strict: epochs and settings selected on validation, test not ranked",
    True: "study: TEST ranked for every trial; choose and report nothing by it",
}
"""What the figures mean: whether of a study -> the label of every output."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One combination of settings, and what came of it.

    Attributes:
        sweep: what the sweep tries.
        number: its place in the sweep, from 0.
        settings: those that the sweep chose.
        finished: whether it was trained to its end, or diverged.
        group: the number of the first of the trials that it trains together with.
        seeds: for each seed ``seed``, ``best_epoch`` (0 for a closed form), and the metrics of
            each ranked part; none of a diverged or unfinished trial.
        seconds: its share of the time of those that trained together.
        diverged: what happened, where the loss was no longer finite.
    """

    sweep: SweepConfig = dataclasses.field(repr=False)
    number: int
    settings: dict[str, Any]
    finished: bool
    group: int | None = None
    seeds: Sequence[dict[str, Any]] = ()
    seconds: float | None = None
    diverged: str | None = None

    @cached_property
    def config(self) -> Config:
        """All of its settings."""
        return self.sweep.trial_config(self.settings)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that were ranked."""
        return tuple(part for part in PARTS if self.seeds and self.seeds[0].get(part))

    def spread(self, part: str, metric: str) -> dict[str, float]:
        """Mean over the seeds, with ``ci95_half_width`` where there are several.

        Args:
            part: a ranked part.
            metric: such as ``recall@20``.
        """
        return seed_statistics([seed[part][metric] for seed in self.seeds])

    def value(self, metric: str) -> float:
        """What the trial is chosen by; below every metric where it diverged.

        Args:
            metric: such as ``recall@20``.
        """
        return -1.0 if self.diverged else self.spread("valid", metric)["mean"]


@dataclasses.dataclass(frozen=True)
class SweepDirectory:
    """A directory that holds one sweep; see the module for its files.

    Attributes:
        path: the directory.
    """

    path: Path

    @classmethod
    def create(
        cls, path: Path, split: Split, config: SweepConfig, data: Mapping[str, Any]
    ) -> SweepDirectory:
        """Write what is known before the first trial, all at once.

        Args:
            path: a new or empty directory.
            split: the protocol is applied.
            config: what to try.
            data: JSON value: where the interactions came from.

        Raises:
            InputError: the directory already holds something.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(
                f"{path}: expected a new or empty directory, it already holds something; "
                f"go on with a sweep by resuming it, or choose another name"
            )
        one = config.trial_config(next(config.checked))
        with whole_folder(path) as temporary:
            with RunDirectory.creating(temporary / "split", split, one, data, "none"):
                pass
            plan = {"format": FORMAT_VERSION, "config": dataclasses.asdict(config)}
            write_json(temporary / "sweep.json", plan)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> SweepDirectory:
        """Open an existing sweep.

        Args:
            path: its directory.

        Raises:
            InputError: it is missing, no sweep, or of another format version.
        """
        if not (path / "sweep.json").exists():
            raise InputError(f"{path}: expected the directory of a sweep, it holds no sweep.json")
        directory = cls(path)
        found = directory._plan.get("format") if isinstance(directory._plan, dict) else None
        if found != FORMAT_VERSION:
            raise InputError(f"{path}: expected a sweep of format {FORMAT_VERSION}, got {found!r}")
        return directory

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Hold the sweep for this process; InputError where another one has it."""
        message = f"{self.path}: another process runs this sweep; wait for it or stop it"
        return locked(self.path / ".lock", message)

    @cached_property
    def _plan(self) -> dict[str, Any]:
        return read_json(self.path / "sweep.json")

    @cached_property
    def config(self) -> SweepConfig:
        """What is tried."""
        try:
            fields = dict(self._plan["config"])
            ranges = {name: Range(**ends) for name, ends in fields.pop("ranges").items()}
            return SweepConfig(**fields, ranges=ranges)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{self.path / 'sweep.json'}: config: cannot use {error}") from None

    @cached_property
    def start(self) -> RunDirectory:
        """The split, its rows in the order in which they came, and where it came from."""
        return RunDirectory.open(self.path / "split")

    @cached_property
    def graph(self) -> BipartiteGraph:
        """The training pairs."""
        return training_graph(self.start.split)

    def group(self, trial: Trial) -> Path:
        """The folder of those that train together with a trial.

        Args:
            trial: one of them.
        """
        return self.path / "groups" / f"{trial.group:03d}"

    @cached_property
    def _storage(self) -> Any:
        log = self.path / "optuna.log"
        if log.exists():
            # A killed process may leave half a line, and the lock that Optuna itself takes.
            os.truncate(log, log.read_bytes().rfind(b"\n") + 1)
            log.with_name("optuna.log.lock").unlink(missing_ok=True)
        with quiet_optuna() as optuna:
            backend = optuna.storages.journal.JournalFileBackend(str(log))
            return optuna.storages.JournalStorage(backend)

    @cached_property
    def study(self) -> Any:
        """Optuna's study, to be opened by the process that holds the sweep."""
        with quiet_optuna() as optuna:
            return optuna.create_study(
                study_name="sweep",
                direction="maximize",
                storage=self._storage,
                load_if_exists=True,
            )

    def trials(self) -> list[Trial]:
        """Every trial so far, by number."""
        trials = []
        for stored in self.study.get_trials(deepcopy=False):
            known = ("group", "seeds", "seconds", "diverged")
            fields = {name: stored.user_attrs[name] for name in known if name in stored.user_attrs}
            settings = self.config.settings_of(stored.params)
            finished = stored.state.is_finished()
            trials.append(Trial(self.config, stored.number, settings, finished, **fields))
        return trials

    def ask(self) -> list[list[Trial]]:
        """The groups of trials that are to be trained; none when the sweep is at its end.

        A sampler that heeds results is asked for as many trials as train together, and again when
        all of them are finished; another one for all trials at once.
        """
        config, trials = self.config, self.trials()
        batch = config.num_trials
        if config.sampler == "tpe":
            batch = max(1, config.together // config.base.get("seeds", 1))
        wanted = len(trials)
        if all(trial.finished for trial in trials):
            wanted += 1
        # A batch that a kill broke off is filled up.
        wanted = min(config.num_trials, -(-wanted // batch) * batch)
        for number in range(len(trials), wanted):
            self._add(number)
        trials = self.trials()
        ungrouped = [trial for trial in trials if trial.group is None]
        configs = [trial.config for trial in ungrouped]
        for places in groups_of(configs, self.config.together, self.graph):
            for place in places:
                self._note(ungrouped[place].number, group=ungrouped[places[0]].number)
        groups: dict[int | None, list[Trial]] = {}
        for trial in self.trials():
            groups.setdefault(trial.group, []).append(trial)
        return [group for group in groups.values() if not all(one.finished for one in group)]

    def _add(self, number: int) -> None:
        """Ask for the next trial; it is stored whole or not at all."""
        config, study = self.config, self.study
        if config.sampler == "tpe":
            [settings] = config.drawn(1, study.get_trials())
        else:
            settings = config.combinations[number]
        with quiet_optuna() as optuna:
            trial = optuna.trial.create_trial(
                state=optuna.trial.TrialState.RUNNING,
                params={name: parameter(value) for name, value in settings.items()},
                distributions=config.distributions(),
            )
            study.add_trial(trial)

    def take_apart(self, trials: Sequence[Trial]) -> None:
        """Let each of a group train alone.

        Args:
            trials: the group.
        """
        for trial in trials:
            self._note(trial.number, group=trial.number)

    def tell(
        self,
        trial: Trial,
        *,
        seeds: Sequence[dict[str, Any]] = (),
        seconds: float | None = None,
        diverged: str | None = None,
    ) -> None:
        """Record what came of a trial; Optuna calls a diverged one pruned.

        Args:
            trial: the trial.
            seeds: as in :class:`Trial`.
            seconds: likewise.
            diverged: likewise.
        """
        note = NOTES[self.config.study]
        self._note(
            trial.number, seeds=seeds, seconds=seconds, diverged=diverged, protocol_note=note
        )
        with quiet_optuna() as optuna:
            if diverged:
                self.study.tell(trial.number, state=optuna.trial.TrialState.PRUNED)
            else:
                ended = dataclasses.replace(trial, seeds=seeds)
                self.study.tell(trial.number, ended.value(self.config.metric))

    def _note(self, number: int, **attributes: Any) -> None:
        study = self._storage.get_study_id_from_name("sweep")
        trial = self._storage.get_trial_id_from_study_id_trial_number(study, number)
        for name, value in attributes.items():
            self._storage.set_trial_user_attr(trial, name, value)
