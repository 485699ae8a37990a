"""A sweep on disk: what is tried, what came of it, and all that resuming needs.

=====================  ==========================================================================
sweep.json             format version and what is tried
sweep.toml             the flags of the command that made it, if one did: ``sweep --config``
split/                 ids, pairs and where they came from, as in a run directory
optuna.log             the study ``sweep`` of an Optuna ``JournalFileBackend``
groups/NNN/            checkpoints of the trials under way, by the first of those that train
                       together; curves and metrics.jsonl stay
sweep.png              where matplotlib is installed
best/, best-refit/     the runs of the best trial
sums.json              SHA-256 sums of the files of a finished sweep but pictures and runs
.lock                  held by the process that sweeps
=====================  ==========================================================================

User attributes of a trial of the study: ``group``, the number of the first of those that it trains
together with; ``seeds``, for each seed ``seed``, ``best_epoch`` (0 for a closed form) and the
metrics of each ranked part; ``seconds``, its share of the time of those that trained together;
``diverged``, what happened where the loss was no longer finite; ``protocol_note``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from lightgcn_jax.asked import OF_SWEEP, asked_for, write_asked
from lightgcn_jax.data.splits import Split
from lightgcn_jax.errors import InputError
from lightgcn_jax.fields import document, record
from lightgcn_jax.files import whole_folder
from lightgcn_jax.graph.bipartite import BipartiteGraph, training_graph
from lightgcn_jax.json_files import read_json, write_json
from lightgcn_jax.memory import device_memory
from lightgcn_jax.paths import refuse_links
from lightgcn_jax.runs.directory import RunDirectory
from lightgcn_jax.runs.metadata import TRIAL
from lightgcn_jax.runs.replicas import PER_REPLICA
from lightgcn_jax.runs.stored_split import STORED
from lightgcn_jax.runs.summary import seed_statistics
from lightgcn_jax.runs.verify import OPTUNAS_LOCKS
from lightgcn_jax.settings.config import Config, TrainConfig
from lightgcn_jax.settings.names import KINDS, flat
from lightgcn_jax.sums import NAME, Sums, write_sums
from lightgcn_jax.sweeps.space import PLAN, SweepConfig, quiet_optuna
from lightgcn_jax.training.strategies import StepCost

FORMAT_VERSION = 2
_FLAGS_OF_SWEEPS = (
    *("set", "range", "trials", "sampler", "draw-seed", "together", "study", "train-best"),
    "refit",
)

Trial = Any
"""An ``optuna.trial.FrozenTrial``; Optuna is imported only where something is swept."""


@dataclasses.dataclass(frozen=True)
class SweepDirectory:
    """A directory that holds one sweep; see the module for its files.

    Attributes:
        path: the directory, which need not exist before :meth:`create`.
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
        with whole_folder(path, "sweep") as temporary:
            made = RunDirectory.creating(temporary / "split", split, config.shared, data, "none")
            with asked_for(None), made:
                pass
            write_asked(temporary, OF_SWEEP)
            plan = {"format": FORMAT_VERSION, "config": dataclasses.asdict(config)}
            write_json(temporary / "sweep.json", plan)
        return cls(path)

    @cached_property
    def _sums(self) -> Sums:
        return Sums(self.path)

    @cached_property
    def config(self) -> SweepConfig:
        """What is tried; InputError where the directory holds no sweep, or another version's."""
        path = self.path / "sweep.json"
        if not path.exists():
            raise InputError(f"{self.path}: expected a sweep, it holds no sweep.json")
        refuse_links(self.path, OPTUNAS_LOCKS)
        plan = read_json(self._sums.checked("sweep.json"))
        found = plan.get("format") if isinstance(plan, dict) else None
        if found != FORMAT_VERSION:
            raise InputError(f"{path}: expected a sweep of format {FORMAT_VERSION}, got {found!r}")
        document(path, plan, record({"config": PLAN}))
        try:
            return SweepConfig(**plan["config"])
        except InputError as error:
            raise InputError(f"{path}: config.{error}") from None

    @cached_property
    def start(self) -> RunDirectory:
        """The split, its rows in the order in which they came, and where it came from."""
        for file in ("config.json", *STORED):
            self._sums.checked(f"split/{file}")
        return RunDirectory.open(self.path / "split")

    def flags_of_run(self, config: Config, tried: Collection[str]) -> dict[str, Any] | None:
        """The flags by which ``train`` repeats a trial's run; None if no command made the sweep.

        Args:
            config: the trial's settings.
            tried: the names of those that the sweep searches.
        """
        path = self.path / OF_SWEEP
        if not path.exists():
            return None
        try:
            flags = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: expected TOML, got {error}") from None
        settings = flat(config)
        names = {name: name.replace("-", "_") for name in flags if name not in _FLAGS_OF_SWEEPS}
        # A setting that the trial's model does not read is refused by train.
        kept = {
            name: flags[name]
            for name, setting in names.items()
            if setting in settings or setting not in KINDS
        }
        chosen = {name.replace("_", "-"): settings[name] for name in tried if name in settings}
        return kept | {name: _of_file(value) for name, value in chosen.items()}

    @cached_property
    def study(self) -> Any:
        """Optuna's study; for the process that holds the sweep."""
        with quiet_optuna() as optuna, self._reading_log():
            storage = self._storage
            # Making a study that is there adds a line to the log, which a finished sweep keeps.
            if storage.get_all_studies():
                return optuna.load_study(storage=storage, study_name="sweep")
            return optuna.create_study(storage=storage, study_name="sweep", direction="maximize")

    @contextlib.contextmanager
    def _reading_log(self) -> Iterator[None]:
        """Whatever Optuna makes of a log that is damaged, which can be anything, names the file."""
        try:
            yield
        except (InputError, OSError):
            raise
        except Exception as error:
            raise InputError(
                f"{self.path / 'optuna.log'}: expected the study of a sweep, got a log that is "
                f"damaged ({type(error).__name__})"
            ) from error

    @property
    def trials(self) -> list[Trial]:
        """Optuna's trials, by number.

        Raises:
            InputError: the log holds others than the sweep tries.
        """
        with self._reading_log():
            trials = self.study.get_trials()
        for trial in trials:
            where = f"{self.path / 'optuna.log'}: trial {trial.number}"
            found = document(where, trial.user_attrs, TRIAL)
            metric = self.config.shared.metric
            if any(metric not in seed["valid"] for seed in found.get("seeds", ())):
                raise InputError(f"{where}: expected {metric} on validation, it is missing")
            if trial.distributions != self.config.distributions:
                raise InputError(f"{where}: expected a trial of what sweep.json tries, got another")
        return trials

    @cached_property
    def _storage(self) -> Any:
        log = self._sums.checked("optuna.log")
        if log.exists():
            # A killed process may leave half a line, and one of an earlier version locks.
            os.truncate(log, log.read_bytes().rfind(b"\n") + 1)
            for left in self.path.iterdir():
                if OPTUNAS_LOCKS.fullmatch(left.name):
                    left.unlink()
        with quiet_optuna() as optuna:
            backend = optuna.storages.journal.JournalFileBackend(str(log), _HeldAlready())
            return optuna.storages.JournalStorage(backend)

    def ask(self) -> list[Trial]:
        """The trials that are to be trained together next; none when the sweep is at its end."""
        trials = self.trials
        if all(map(_finished, trials)) and len(trials) < self.config.num_trials:
            self._add(self.config.batch(trials), len(trials))
            trials = self.trials
        groups = [trial.user_attrs["group"] for trial in trials if not _finished(trial)]
        return [trial for trial in trials if trial.user_attrs["group"] in groups[:1]]

    def _add(self, batch: Sequence[Mapping[str, Any]], first: int) -> None:
        """Store trials, each of them whole or not at all."""
        configs = [self.config.trial_config(parameters) for parameters in batch]
        groups = groups_of(configs, self.config.together, training_graph(self.start.split))
        group_of = {place: first + places[0] for places in groups for place in places}
        with quiet_optuna() as optuna, self._reading_log():
            for place, parameters in enumerate(batch):
                trial = optuna.trial.create_trial(
                    state=optuna.trial.TrialState.RUNNING,
                    params=parameters,
                    distributions=self.config.distributions,
                    user_attrs={"group": group_of[place]},
                )
                self.study.add_trial(trial)

    def tell(self, trial: Trial, **attributes: Any) -> None:
        """Record what came of a trial; Optuna calls a diverged one pruned.

        Args:
            trial: the trial; one that is finished stays as it is.
            attributes: ``seeds`` and ``seconds``, or ``diverged``; see the module.
        """
        if _finished(trial):
            return
        self.note(trial, protocol_note=self.config.protocol_note, **attributes)
        with quiet_optuna() as optuna:
            if "diverged" in attributes:
                self.study.tell(trial.number, state=optuna.trial.TrialState.PRUNED)
            else:
                figures = spread(attributes["seeds"], "valid", self.config.shared.metric)
                self.study.tell(trial.number, figures["mean"])

    def finish(self) -> None:
        """List the sums of the sweep's files, whose last line is written; once."""
        if not (self.path / NAME).exists():
            write_sums(self.path, {})

    def note(self, trial: Trial, **attributes: Any) -> None:
        """Store user attributes of a trial.

        Args:
            trial: the trial.
            attributes: JSON values by name.
        """
        with self._reading_log():
            study = self._storage.get_study_id_from_name("sweep")
            number = self._storage.get_trial_id_from_study_id_trial_number(study, trial.number)
            for name, value in attributes.items():
                self._storage.set_trial_user_attr(number, name, value)


class _HeldAlready:
    """What Optuna takes for a lock of its log: the sweep's own lock is held by this process, and
    Optuna's own ones are links, which a kill leaves."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None: ...


def spread(seeds: Sequence[Mapping[str, Any]], part: str, metric: str) -> dict[str, float]:
    """A metric's mean over the seeds of a trial, and ``ci95_half_width`` of several.

    Args:
        seeds: the trial's user attribute.
        part: a ranked part.
        metric: such as ``recall@20``.
    """
    return seed_statistics([seed[part][metric] for seed in seeds])


def _finished(trial: Trial) -> bool:
    return trial.state.is_finished()


def groups_of(configs: Sequence[Config], together: int, graph: BipartiteGraph) -> list[list[int]]:
    """Places of the trials that train together: they differ only where replicas may.

    Args:
        configs: the settings of each trial.
        together: runs at once, at most; a trial is as many runs as it has seeds, and stays whole.
        graph: the training interactions, for the memory that a run takes.
    """
    alike: dict[frozenset, list[int]] = {}
    for place, config in enumerate(configs):
        shared = {name: value for name, value in flat(config).items() if name not in PER_REPLICA}
        alike.setdefault(frozenset(shared.items()), []).append(place)
    groups = []
    for places in alike.values():
        config, size = configs[places[0]], 1
        if isinstance(config, TrainConfig):
            fitting = device_memory() // 2 // StepCost.of(graph, config.strategies).held_bytes
            size = max(1, min(together, fitting) // config.seeds)
        groups += [places[first : first + size] for first in range(0, len(places), size)]
    return groups


def _of_file(value: Any) -> Any:
    """A setting as a file of flags holds it."""
    if value is None:
        return "None"
    return list(value) if isinstance(value, tuple) else value
