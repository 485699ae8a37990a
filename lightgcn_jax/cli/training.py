"""The command train: new runs, runs to resume, and runs that go on with new data."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

import jax
import numpy as np
import tyro

from lightgcn_jax.cli.console import messages, results, tell
from lightgcn_jax.cli.prepared import prepared_lines, prepared_of, recorded
from lightgcn_jax.cli.runs import Switch, cold_lines, print_run_figures, ranked_table
from lightgcn_jax.cli.settings import flag, settings_type, shown
from lightgcn_jax.cli.source import Source, columns_read
from lightgcn_jax.cli.taking import check_place, cleared
from lightgcn_jax.data import PARTS, Interactions, Split, undivided
from lightgcn_jax.data.also_seen import SeenIds
from lightgcn_jax.data.protocol import apply_protocol
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import Embedded
from lightgcn_jax.processes.agreement import is_first, of_the_first, several
from lightgcn_jax.runs import (
    ConsoleReporter,
    FitResult,
    RunDirectory,
    SilentReporter,
    continue_from,
    fit,
    refit,
    resume,
)
from lightgcn_jax.runs.continuation import open_trained
from lightgcn_jax.serving import Recommender
from lightgcn_jax.serving.export import is_exportable
from lightgcn_jax.settings import (
    BY_CATALOGUE,
    PRESETS,
    Config,
    TrainConfig,
    flat,
    for_catalogue,
    label_of,
    model_name,
)
from lightgcn_jax.settings.config import check_ks, metric_among, with_fitting_ks
from lightgcn_jax.settings.names import DEFAULTS, KINDS, flag_documentation, replaced
from lightgcn_jax.settings.registry import readers
from lightgcn_jax.sharding import mesh_of

Preset = Literal["default", "paper", "fast"]
_CHOICES = f"{{{','.join(get_args(Preset))}}}"
_SAMPLE_USERS, _SAMPLE_ITEMS = 2, 5
# What --refit takes in the place of a run, the protocol that it means, and that of --final.
_ALL = "all"


def _hint(name: str) -> str:
    """What reads the setting, and its value in every preset."""
    presets = {preset: flat(config) for preset, config in PRESETS.items()}
    given = {preset: values[name] for preset, values in presets.items() if name in values}
    values = {"default": DEFAULTS[name]} | given
    if len({repr(value) for value in values.values()}) == 1:
        values = {"default": DEFAULTS[name]}
    values = {} if values == {"default": None} else values
    parts = [f"{preset}: {shown(value)}" for preset, value in values.items()]
    hint = "; ".join(filter(None, (readers(name), *parts)))
    return f"({hint})" if hint else ""


if TYPE_CHECKING:
    Settings = dict[str, Any]
else:
    Settings = settings_type(KINDS, flag_documentation(), _hint)


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a model on a data set or on your own files, and write a run directory.

    Without --dataset and --data a generated world is used. --model chooses a model that is trained
    or one in closed form, which is fitted in one go. Settings that are not given are those of the
    preset; with --from, those of the run.

    Attributes:
        source: the data.
        preset: named settings; `paper` are those of He et al. 2020 for LightGCN, `fast` those that
            reach a good ranking in the fewest seconds. Where they are not given, its temperature
            and its popularity offset are 0.2 and 0.12 with fewer than 10,000 items, 0.15 and 0.09
            with fewer than 25,000.
        settings: settings of the run.
        out: the new run directory.
        overwrite: put the new run in the place of the one that lies in --out.
        resume: go on with a run that was broken off, with its own stored settings.
        from_run: go on from this run's best epoch with new data, which join its own, in a new run;
            of a trained model.
        refit: train anew on train and validation, for as many epochs as this run chose on
            validation and with its settings, in a new run; with `--protocol all` on test too.
            `--refit all` trains on all data at once, which is the protocol `all`.
        final: train anew on all pairs of this run, test included, for as many epochs as it chose
            and with its settings, in a new run to serve: `--refit` with `--protocol all`.
        mesh: train on several devices: rows of the tables are shared out over those of `model`,
            rows of a batch over those of `data`; `auto` takes all devices for `model`. A run goes
            on with any mesh.
        quiet: print nothing but the run directory.
    """

    source: Annotated[Source, tyro.conf.arg(name="")]
    settings: Annotated[Settings, tyro.conf.arg(name="")]
    preset: Annotated[Preset | None, flag(_CHOICES, "(default: default)")] = None
    out: Annotated[Path | None, flag("RUN", "(default: runs/<data>-<time>)")] = None
    overwrite: Switch = False
    resume: Annotated[Path | None, flag("RUN")] = None
    from_run: Annotated[Path | None, flag("RUN", name="from")] = None
    refit: Annotated[str | None, flag("RUN|all")] = None
    final: Annotated[Path | None, flag("RUN")] = None
    mesh: Annotated[
        str | None, flag("data=2,model=4|auto", "(default: one device; of several processes auto)")
    ] = None
    quiet: Switch = False

    def run(self) -> int:
        mesh_of(self.mesh)  # One that does not fit is refused before data are read.
        if self.resume is not None:
            result = self._resume(self.resume)
        elif self.final is not None:
            result = self._refit(self.final, "final")
        elif self.refit not in (None, _ALL):
            result = self._refit(Path(self.refit), "refit")
        else:
            result = self._train()
        if self.quiet and is_first():
            tell(cast(Path, result.directory))
        elif is_first():
            _print_outcome(result)
        return 0

    def _resume(self, path: Path) -> FitResult:
        others = (self.settings, self.preset, self.out, self.overwrite)
        if any((*others, self.from_run, self.refit, self.final)) or not self.source.is_default:
            raise InputError(
                "--resume: goes on with the run's own stored data and settings; "
                "leave the other flags out"
            )
        run = RunDirectory.open(path)
        config = run.config
        for note in run.split.notes:
            self._note(note)
        self._note(f"Protocol {label_of(config)}")
        result = resume(path, reporter=self._reporter(config), mesh=self.mesh)
        if result.already_finished:
            self._note("This run had already finished; nothing was trained.")
        return result

    def _refit(self, path: Path, how: Literal["refit", "final"]) -> FitResult:
        protocol = self.settings.get("protocol", _ALL if how == "final" else "fixed")
        others = self.settings.keys() - ({"protocol"} if how == "refit" else set())
        others = (others, self.preset, self.from_run, self.refit if how == "final" else None)
        if any(others) or not self.source.is_default:
            taken = "--out, --overwrite and --protocol" if how == "refit" else "--out, --overwrite"
            raise InputError(
                f"--{how}: takes the run's own stored data and settings; leave the other flags "
                f"out, but for {taken}"
            )
        if protocol not in ("fixed", _ALL):
            raise InputError(f"--protocol: expected fixed or all beside --refit, got {protocol}")
        out = self.out or path.with_name(f"{path.name}-{how}")
        self._check_place(out)
        config = RunDirectory.open(path).config
        with cleared(out, overwrite=self.overwrite and is_first()):
            about: dict[str, Any] = {"out": out, "reporter": self._reporter(config)}
            return refit(path, protocol=protocol, mesh=self.mesh, **about)

    def _train(self) -> FitResult:
        if self.from_run is not None and self.source.data is None and self.source.dataset is None:
            raise InputError("--from: expected the new data as well, by --data or --dataset")
        out = self.out or Path("runs") / f"{self.source.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        self._check_place(out)
        out = Path(of_the_first(str(out)))  # whose name may tell the time
        config = self._config()
        old = {} if self.from_run is None else columns_read(RunDirectory.open(self.from_run).data)
        quiet = self.quiet or not is_first()
        prepared = prepared_of(self.source)
        if prepared is not None:
            told = partial(prepared_lines, self.source, prepared)
            return self._fit(prepared.split, config, out, told, recorded(self.source, prepared))
        interactions, also_seen = self.source.read(quiet=quiet, remembered=old)
        # New data may be few: the run that they join has validation and test pairs already.
        if config.protocol == _ALL:
            if self.source.split is not None:
                raise InputError(
                    f"--split: withholds interactions to judge by, but under the protocol all "
                    f"everything trains, got {self.source.split}"
                )
            split = undivided(interactions)
            split = dataclasses.replace(split, notes=(*interactions.notes, *split.notes))
        else:
            split = self.source.split_up(interactions, allow_empty=self.from_run is not None)
        told = partial(data_lines, self.source, interactions)
        return self._fit(split, config, out, told, self.source.record(interactions), also_seen)

    def _fit(
        self,
        split: Split,
        config: Config,
        out: Path,
        told: Callable[[Split], Iterable[str]],
        data: Mapping[str, Any],
        also_seen: SeenIds | None = None,
    ) -> FitResult:
        """Train on a split."""
        items = len(split.items)
        if self.from_run is not None and self.preset in BY_CATALOGUE:
            # The new data join those of the run.
            known = RunDirectory.open(self.from_run).split.items
            items = len(known) + int((known.rows(split.items.ids) < 0).sum())
        config, settled = for_catalogue(config, self.preset, items, self.settings)
        if self.from_run is None:
            split = apply_protocol(split, config.protocol, seed=self.source.split_seed)
            if "ks" in self.settings:
                check_ks(config, len(split.items), "--ks")
            else:
                config, note = with_fitting_ks(config, len(split.items))
                if note:
                    self._note(note)
        # Said before it takes time.
        for line in told(split):
            self._note(line)
        if settled:
            self._note(settled)
        self._note(f"Protocol {label_of(config)}")
        idle = self.mesh is None and not several() and len(jax.devices()) > 1
        if isinstance(config, TrainConfig) and idle:
            self._note(f"One of {len(jax.devices())} devices is used; --mesh auto takes all.")
        about: dict[str, Any] = {"out": out, "reporter": self._reporter(config), "data": data}
        about |= {"also_seen": also_seen, "mesh": self.mesh}
        with cleared(out, overwrite=self.overwrite and is_first()):
            if self.from_run is None:
                return fit(split, config, **about)
            assert isinstance(config, TrainConfig)
            return continue_from(
                self.from_run, split, config, **about, unknown_ids=self.source.unknown_ids
            )

    def _config(self) -> Config:
        """The preset's settings, or with --from the run's, under those that were given."""
        base, given = PRESETS[self.preset or "default"], dict(self.settings)
        if self.refit == _ALL:
            if Path(_ALL).is_dir():
                raise InputError(
                    "--refit all: could mean all data or the run in the folder all; for all data "
                    "give --protocol all, for the run --refit ./all"
                )
            if given.setdefault("protocol", _ALL) != _ALL:
                raise InputError(f"--refit all: expected protocol all, got {given['protocol']}")
        source = f"--preset: {self.preset}" if self.preset else f"--from: {self.from_run}"
        if self.from_run is not None:
            old = open_trained(self.from_run).config
            base = old if self.preset is None else base
            given.setdefault("model", model_name(old))
            if given["model"] != model_name(old):
                raise InputError(
                    f"--model: expected {model_name(old)} as in {self.from_run}, "
                    f"got {given['model']}"
                )
        wanted = base.selection.select_by if isinstance(base, TrainConfig) else None
        if wanted and "select_by" not in given:
            given["select_by"] = metric_among(wanted, given.get("ks", base.ks))
        config = replaced(base, given, "--", source)
        if isinstance(config, TrainConfig) and "ks" in given and "select_by" not in self.settings:
            default = TrainConfig().metric
            if config.metric != default:
                cutoff = default.partition("@")[2]
                self._note(f"The epoch is selected by {config.metric}, as {cutoff} is not in --ks.")
        return config

    def _check_place(self, out: Path) -> None:
        if is_first():  # the only one that writes there
            check_place(out, overwrite=self.overwrite)

    def _note(self, line: str) -> None:
        messages(quiet=self.quiet).print(line)

    def _reporter(self, config: Config) -> ConsoleReporter | SilentReporter:
        if self.quiet or not is_first():
            return SilentReporter()
        metric = config.metric if isinstance(config, TrainConfig) else ""
        return ConsoleReporter(messages(), metric=metric)


def data_lines(source: Source, interactions: Interactions, split: Split) -> Iterator[str]:
    """What is trained on, a line at a time.

    Args:
        source: where the interactions come from.
        interactions: all of them.
        split: their parts.
    """
    yield f"Data {source.name}:"
    for change in interactions.report:
        yield f"  {change}"
    yield (
        f"  {len(interactions):,} interactions, {interactions.num_users:,} users, "
        f"{interactions.num_items:,} items"
    )
    yield f"Split: {split.description}"
    yield "  " + ", ".join(f"{len(getattr(split, part)):,} {part}" for part in PARTS)
    # What was noted of the interactions was said when they were read.
    for note in split.notes:
        if note not in interactions.notes:
            yield f"  {note}"


def _print_outcome(result: FitResult) -> None:
    """The figures, a taste of the recommendations, and what to do next."""
    console, summary, run = results(), result.summary, str(result.directory)
    config, recommender = result.config, Recommender.from_fit(result)
    made = f"Epoch {summary['best_epoch']}"
    if not config.is_trained:
        made = f"{model_name(config)}, fitted in {summary['fit_seconds']:.2f} s"
    console.print(f"{made}, protocol {summary['protocol_note']}")
    print_run_figures(console, result)
    for line in cold_lines(summary.get("cold", {})):
        console.print(line)
    if "embeddings_of_seed" in summary:
        console.print(
            f"Means over {config.seeds} seeds ± half width of the 95 % confidence interval; "
            f"the run keeps the model of seed {summary['embeddings_of_seed']}."
        )
    if config.is_trained:
        in_tables = summary["embedding_parameters"]
        console.print(
            f"{summary['parameters']:,} parameters: {in_tables:,} in embeddings, which grow with "
            f"users and items, {summary['parameters'] - in_tables:,} in weights, which do not"
        )
    # The first users with training items, and with test items where any have both.
    rows = result.split.train.named("users")
    both = np.intersect1d(rows, result.split.test.users)
    users = result.split.users.external((both if len(both) else rows)[:_SAMPLE_USERS])
    k = min(_SAMPLE_ITEMS, len(result.split.items))
    found = dict(zip(users, recommender.recommend(users, k), strict=True))
    console.print(ranked_table("user", "item", found, recommender.titles))
    path, user = shlex.quote(run), shlex.quote(str(users[0]))
    shown = [identifier for ranked in found.values() if ranked for identifier in ranked.ids]
    item = shlex.quote(str(shown[0] if shown else result.split.items.ids[0]))
    console.print(f"The run lies in {run}. Next:")
    console.print(f"  lightgcn-jax recommend {path} --user {user}")
    scorer = recommender.scorer
    if isinstance(scorer, Embedded) or hasattr(scorer, "item_similarity"):
        console.print(f"  lightgcn-jax similar {path} --item {item}")
    if is_exportable(scorer):
        console.print(f"  lightgcn-jax export {path} --to embeddings.npz")
    if config.protocol == "strict":
        served = shlex.quote(f"{run}-served")
        console.print(f"  lightgcn-jax train --final {path} --out {served}")
        console.print("    trains on everything, validation and test too, to serve it")
