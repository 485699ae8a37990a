"""One run after another of every variant, data set and seed; each is kept as soon as it is done.

A seed decides what is held out, the walks, the initial values and everything drawn in training, so
all of these contribute to the spread over seeds. Variants with one seed have the same held-out
pairs, and are compared seed by seed. The epoch is chosen on validation; test is ranked once, at the
end of a run.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightgcn_jax.errors import InputError
from lightgcn_jax.fields import ANYTHING, document, number, record, table_of
from lightgcn_jax.files import locked
from lightgcn_jax.json_files import read_json, write_json
from pinsage_jax.experiments.bench import TASK, Bench, Say
from pinsage_jax.experiments.experiment import DataSet, Experiment, Variant

FORMAT = 3


class Run(NamedTuple):
    """A run to be carried out.

    Attributes:
        data: the data set.
        variant: what is trained or scored on it.
        seed: the seed of everything that is drawn.
    """

    data: DataSet
    variant: Variant
    seed: int

    def __str__(self) -> str:
        return f"{self.data.name} {self.variant.name} seed {self.seed}"

    def path(self, out: Path) -> Path:
        """Name the file that its figures are kept in.

        Args:
            out: the folder of all runs.
        """
        return out / self.data.name / f"{self.variant.name}-seed{self.seed}.json"

    def settings(self) -> dict[str, Any]:
        """Everything that decides its figures, as a JSON value."""
        config = self.variant.settings(self.data.config, self.seed)
        settings = {
            "format": FORMAT,
            "data": self.data.record(),
            "task": dict(TASK),
            "triplets": self.data.triplets,
            "variant": self.variant.name,
            "kind": self.variant.kind,
            "seed": self.seed,
            "config": None if config is None else dataclasses.asdict(config),
        }
        return json.loads(json.dumps(settings))


_KEPT = record(
    {"settings": ANYTHING, "figures": table_of(number()), "details": ANYTHING}, closed=True
)


class Result(NamedTuple):
    """A finished run.

    Attributes:
        run: the run.
        figures: its figures by name (:class:`pinsage_jax.experiments.bench.Bench`).
        details: further values, for a reader of the file.
    """

    run: Run
    figures: dict[str, float]
    details: dict[str, Any]


class Outcome(NamedTuple):
    """Finished runs, and those that are left.

    Attributes:
        results: the finished ones.
        left: the others.
    """

    results: list[Result]
    left: list[Run]


def planned(experiments: Iterable[Experiment], seeds: int) -> list[Run]:
    """List all runs seed by seed, so that a table is whole after its first seed.

    Args:
        experiments: the experiments.
        seeds: how many seeds each variant gets.
    """
    return [
        Run(data, variant, seed)
        for data, variants in experiments
        for seed in range(seeds)
        for variant in variants
    ]


def carry_out(
    runs: Sequence[Run],
    out: Path,
    *,
    data_dir: Path | None = None,
    minutes: float | None = None,
    say: Say = lambda _: None,
) -> Outcome:
    """Run what is not finished yet.

    Args:
        runs: the runs, in the order in which they are carried out.
        out: the folder of their figures.
        data_dir: the folder of real data.
        minutes: after so many minutes no run is started any more; None for no end.
        say: called with a line about every run.

    Raises:
        InputError: a file holds another run or other settings, or another process works in ``out``.
    """
    end = None if minutes is None else time.monotonic() + 60 * minutes
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / "lock", f"{out}: another process is at work in this folder"):
        # All are read before any is run: what does not fit is refused at once.
        results = {str(run): found for run in runs if (found := read_result(run, out)) is not None}
        if results:
            say(f"{len(results)} of {len(runs)} runs are finished already, in {out}")
        left: list[Run] = []
        for group in _together(run for run in runs if str(run) not in results):
            bench = None
            for run in group:
                if end is not None and time.monotonic() >= end:
                    left.append(run)
                    continue
                if bench is None:
                    trained = any(one.variant.kind == "trained" for one in group)
                    bench = Bench(run.data, run.data.load(data_dir), run.seed, trained=trained)
                    bench.introduce(say)
                found = Result(run, *bench.run(run.variant))
                write_result(found, out)
                results[str(run)] = found
                say(f"{len(results)} of {len(runs)}: {run}: {_in_short(found)}")
    return Outcome([results[str(run)] for run in runs if str(run) in results], left)


def read_result(run: Run, out: Path) -> Result | None:
    """Read the figures of a run; None where it is not finished.

    Args:
        run: the run.
        out: the folder of all runs.

    Raises:
        InputError: the file is damaged, or was made with other settings, the first of which is
            named.
    """
    path = run.path(out)
    if not path.exists():
        return None
    kept = document(path, read_json(path), _KEPT)
    was, wanted = _flat(kept["settings"]), _flat(run.settings())
    for name in (*wanted, *was):
        if (before := was.get(name, "not there")) != (now := wanted.get(name, "not there")):
            raise InputError(
                f"{path}: this run was made with {name} {before}, asked for is {now}; give the "
                "same settings, another --out, or remove the file"
            )
    return Result(run, kept["figures"], kept["details"])


def write_result(result: Result, out: Path) -> None:
    """Write the figures of a run.

    Args:
        result: the figures.
        out: the folder of all runs.
    """
    path = result.run.path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = result.run.settings()
    write_json(path, {"settings": settings, "figures": result.figures, "details": result.details})


def _together(runs: Iterable[Run]) -> list[list[Run]]:
    """Runs that follow each other with the same data and seed."""
    return [list(group) for _, group in itertools.groupby(runs, lambda run: (run.data, run.seed))]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """A JSON object's innermost values by their path."""
    if not isinstance(value, dict):
        return {name: value}
    inner = (_flat(one, f"{name}.{key}".lstrip(".")) for key, one in value.items())
    return dict(itertools.chain.from_iterable(one.items() for one in inner))


def _in_short(result: Result) -> str:
    names = ("hit_rate@10", "hit_rate@100", "mrr")
    parts = [f"{name} {result.figures[name]:.4f}" for name in names if name in result.figures]
    return f"{', '.join(parts)}, {result.figures['seconds']:.1f} s"
