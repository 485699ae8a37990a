"""One object from contexts and features to vectors of items, with scikit-learn's habits."""

from __future__ import annotations

import dataclasses
import inspect
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from jax.sharding import Mesh

from lightgcn_jax.consoles import PlainConsole
from lightgcn_jax.data import Interactions
from lightgcn_jax.data.spellings import UnknownIds
from lightgcn_jax.errors import InputError
from lightgcn_jax.estimators.arguments import suggests
from lightgcn_jax.estimators.chosen import check_names
from lightgcn_jax.estimators.fitting import OnEpoch, listeners
from lightgcn_jax.estimators.given import Named
from lightgcn_jax.estimators.parameters import Parameters
from lightgcn_jax.files import whole_folder
from lightgcn_jax.settings.registry import fields_of
from pinsage_jax.config import PRESETS, PinSageConfig, settings_from
from pinsage_jax.data.items import ItemData
from pinsage_jax.data.sources import SOURCES, load_items
from pinsage_jax.estimators.given import feature_frame, given_contexts
from pinsage_jax.estimators.listening import Listening, TaskName, task_of
from pinsage_jax.estimators.serving import Fitted, Scratch, Serving
from pinsage_jax.features.columns import Kind
from pinsage_jax.features.files import align
from pinsage_jax.features.table import FeatureTable
from pinsage_jax.runs.continuation import continue_from
from pinsage_jax.runs.directory import PinSageRun
from pinsage_jax.runs.finished import keep_added
from pinsage_jax.runs.fit import fit
from pinsage_jax.runs.reporter import ConsoleReporter
from pinsage_jax.tasks.task import Task
from pinsage_jax.training.division import check_mesh

_FIELDS = frozenset(field.name for field in dataclasses.fields(PinSageConfig))
_COLUMNS = ("context", "item")


class Begun(NamedTuple):
    """A run that is gone on from.

    Attributes:
        path: its directory.
        config: its settings.
        kinds: the kinds of the feature columns that it reads.
    """

    path: Path
    config: PinSageConfig
    kinds: dict[str, Kind]


class PinSage(Parameters, Serving):
    """Vectors of items from their features and contexts (Ying et al. 2018), new items included.

    Args:
        preset: settings to put those given over: "default" or "paper".
        verbose: whether progress and what is guessed are shown on stderr.
        settings: fields of :class:`~pinsage_jax.config.PinSageConfig`: ``PinSage(epochs=5)``.

    Raises:
        InputError: settings that are unknown, or do not fit each other.
    """

    def __init__(self, *, preset: str = "default", verbose: bool = True, **settings: Any):
        of_fit = inspect.signature(self.fit).parameters
        check_names(settings, type(self).__name__, _FIELDS | {"preset", "verbose"}, of_fit)
        if preset not in PRESETS:
            raise InputError(f"preset: expected one of {', '.join(PRESETS)}, got {preset!r}")
        self._preset, self._given, self.verbose = preset, settings, verbose
        self.config = settings_from(PinSageConfig(), **self._asked)

    @property
    def _asked(self) -> dict[str, Any]:
        """The settings that were asked for, those of the preset among them."""
        return {**PRESETS[self._preset], **self._given}

    def arguments(self) -> Mapping[str, Any]:
        return {"preset": self._preset, "verbose": self.verbose, **self._given}

    @suggests
    def fit(
        self,
        contexts: Any,
        features: Any = None,
        *,
        context: Any = None,
        item: Any = None,
        timestamp: Any = None,
        id_column: str | None = None,
        kinds: Mapping[str, Kind] | None = None,
        task: TaskName | None = None,
        start: Serving | Path | str | None = None,
        unknown_ids: UnknownIds = "refuse",
        on_epoch: OnEpoch | Sequence[OnEpoch] = (),
        out: Path | str | None = None,
        mesh: Mesh | str | None = None,
    ) -> Self:
        """Train an encoder, and give all items vectors.

        A tenth of the memberships chooses the epoch, and another tenth judges it once.

        Args:
            contexts: memberships of items in contexts (boards, baskets, sessions, users): a frame,
                an Arrow table, a mapping of columns, a sparse matrix, arrays, a path, Interactions,
                the name of a data set, ItemData, or a Task, whose held-out pairs are kept.
            features: a row for each item: a frame, an Arrow table, a mapping of columns or the path
                of a file; None for none.
            context: the column of contexts of a table; usual names are found without it.
            item: likewise of items.
            timestamp: likewise of times.
            id_column: the column of items' ids among the features; that which is called like the
                contexts' is found without it.
            kinds: kinds of feature columns, where their types would decide otherwise.
            task: ``items`` pairs items of one context, ``users`` a user's last items with the next,
                which takes times. By default items.
            start: a fitted model or a run to go on from, whose encoder, data and held-out pairs the
                new data join; ``contexts`` and ``features`` are the new data then. Settings of the
                encoder are its own; others that were not given are the run's too.
            unknown_ids: with ``start``, whether to go on where most contexts and items are unknown.
            on_epoch: functions that receive the figures of each epoch: ``epoch``, ``loss``,
                ``valid/hit_rate@500`` and so on.
            out: a new directory for the run; :meth:`save` writes one afterwards.
            mesh: devices to divide batches among, ``data=8`` for instance or ``auto``; None for
                one.

        Returns:
            The estimator itself.

        Raises:
            InputError: data, features or settings that do not fit.
        """
        if task not in (None, "items", "users"):
            raise InputError(f"task: expected 'items' or 'users', got {task!r}")
        check_mesh(mesh, self.config)
        lines: list[str] = []
        columns, is_pandas = _COLUMNS, hasattr(features, "iloc")
        begun = None if start is None else self._begun(start)
        if begun is not None:
            if task is not None or isinstance(contexts, Task):
                raise InputError("task: what is held out and learnt is the run's; leave it out")
            kinds = {**begun.kinds, **(kinds or {})}
            self.config = settings_from(begun.config, **self._asked)
        if isinstance(contexts, Task):
            made = contexts
        else:
            if isinstance(contexts, ItemData):
                data = contexts
            elif isinstance(contexts, str) and contexts in SOURCES and not Path(contexts).exists():
                data = load_items(contexts)
            else:
                named = Named(context, item, None, timestamp)
                interactions, given = given_contexts(contexts, named)
                lines += given.lines
                columns, is_pandas = given.names, is_pandas or given.is_pandas
                table = _table(features, interactions, id_column, columns[1], kinds, lines)
                data = ItemData("own data", interactions, table, {})
            made = data if begun is not None else task_of(data.in_canonical_order(), task)
        data = made.data if isinstance(made, Task) else made
        with self._reporter() as shown:
            for line in (*lines, data.describe(), *made.notes):
                shown.noted(line)
            folder = None
            if out is None:
                folder = Scratch()
                out = folder.path / "run"
            path = Path(out)
            functions = listeners(on_epoch)
            reporter = Listening(shown, functions) if functions else shown
            about = {"columns": list(columns), "dataset": data.name}
            if isinstance(made, Task):
                fit(made, self.config, out=path, data=about, reporter=reporter, mesh=mesh)
            else:
                assert begun is not None
                continue_from(
                    begun.path,
                    made,
                    self.config,
                    out=path,
                    record=about,
                    reporter=reporter,
                    unknown_ids=unknown_ids,
                    mesh=mesh,
                )
        self._take(Fitted(path, columns, is_pandas, folder))
        return self

    def _begun(self, start: Any) -> Begun:
        """The run that is gone on from."""
        path = start._now.path if isinstance(start, Serving) else Path(start)
        run = PinSageRun.open(path)
        run.summary  # noqa: B018, refuses a run that is not finished
        kinds: dict[str, Kind] = {one.name: one.kind for one in run.read_schema().columns}
        return Begun(path, run.config, kinds)

    def _reporter(self) -> Any:
        console = PlainConsole(stderr=True, quiet=not self.verbose)
        return ConsoleReporter(console, self.config.epochs, self.config.metric)

    def save(self, path: Path | str) -> Path:
        """Write a run directory with the items that were added, as the commands read it too.

        Args:
            path: a new directory, or that of the run itself, which then keeps the added items.

        Returns:
            The directory.

        Raises:
            InputError: it holds something else.
        """
        target, own = Path(path), self._now.path
        if target.resolve() != own.resolve():
            left_out = shutil.ignore_patterns("checkpoints", ".lock")
            with whole_folder(target, "run") as folder:
                shutil.copytree(own, folder, ignore=left_out, dirs_exist_ok=True)
        if "live" in self.__dict__:
            stored = self.live.stored
            keep_added(target, self.live)
            if target.resolve() != own.resolve():
                self.live.stored = stored
        return target

    @classmethod
    def load(cls, path: Path | str, *, verbose: bool = True) -> Self:
        """Open a finished run, items that were added to it included.

        Args:
            path: its directory, from :meth:`save`, ``fit(…, out=…)`` or ``pinsage-jax train``.
            verbose: as an estimator takes it.

        Raises:
            InputError: there is no finished run.
        """
        run = PinSageRun.open(Path(path))
        run.summary  # noqa: B018, refuses a run that is not finished
        default = fields_of(PinSageConfig())
        changed = fields_of(run.config).items()
        estimator = cls(
            verbose=verbose, **{name: one for name, one in changed if one != default[name]}
        )
        columns = (run.record.get("data") or {}).get("columns", _COLUMNS)
        estimator._take(Fitted(Path(path), (columns[0], columns[1]), False, None))
        return estimator

    @property
    def title(self) -> str:
        """The class with the settings that were given."""
        given = {} if self._preset == "default" else {"preset": self._preset}
        stated = (f"{name}={value!r}" for name, value in {**given, **self._given}.items())
        return f"PinSage({', '.join(stated)})"

    def facts(self) -> Mapping[str, Any]:
        """What it was fitted on, and how well."""
        if self._fitted is None:
            return {"fitted": "not yet, call fit(contexts, features)"}
        summary, test = self._summary, self._summary["test"]
        return {
            "fitted": f"{summary['ranked_items']:,} items, epoch {summary['best_epoch']} of "
            f"{summary['epochs']}",
            "figures": ", ".join(f"{name} {test[name]:.4f}" for name in list(test)[:3]),
        }


def _table(
    features: Any,
    interactions: Interactions,
    id_column: str | None,
    item: str,
    kinds: Mapping[str, Kind] | None,
    lines: list[str],
) -> FeatureTable:
    """The features in the order of the items' rows."""
    if features is None:
        return FeatureTable({}, interactions.num_items)
    if isinstance(features, FeatureTable):
        return features
    frame, id_column, notes = feature_frame(features, id_column, item, kinds)
    table, alignment = align(frame, interactions.items, id_column, kinds=kinds)
    lines += [*notes, str(alignment)]
    return table
