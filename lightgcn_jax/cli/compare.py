"""The command compare: runs side by side on the same test pairs, tested against one of them."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from lightgcn_jax.cli.console import results, say, table
from lightgcn_jax.cli.runs import Names, Switch
from lightgcn_jax.cli.settings import File, flag
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.significance import RESAMPLES, PairedComparison
from lightgcn_jax.runs.compare import ComparedRun, Comparison, compare_runs
from lightgcn_jax.runs.panels import check_picture
from lightgcn_jax.runs.plot import plot_comparison

_LEVELS = (("**", 0.01), ("*", 0.05))


@dataclass(frozen=True)
class Compare:
    """Put runs side by side on the same test pairs, and test each against the first.

    The users' values of a metric are compared by a paired t-test and a permutation test, corrected
    by Holm for the number of runs.

    Attributes:
        run_paths: two run directories or more; their test pairs must be the same.
        k: cut-off.
        metric: metrics to compare by, among recall, precision, f1, ndcg, map, mrr and hit_rate.
        baseline: the run to test the others against, one of those given; by default the first.
        plot: draw the runs side by side with their intervals, to this .png or .svg; that needs the
            extra `plot`.
        json: print JSON.
    """

    run_paths: Annotated[tuple[Path, ...], tyro.conf.Positional, flag("RUN RUN [RUN ...]")]
    k: Annotated[int, tyro.conf.arg(metavar="K")] = 20
    metric: Names = ("recall", "ndcg")
    baseline: Annotated[Path | None, flag("RUN")] = None
    plot: File = None
    json: Switch = False

    def run(self) -> int:
        if self.plot is not None:
            check_picture(self.plot, "--plot")
        found = compare_runs(self.run_paths, self.k, self.metric, self._baseline())
        if self.plot is not None:
            say(f"wrote {plot_comparison(found, self.plot)}")
        if self.json:
            plain = dataclasses.asdict(found, dict_factory=_without_nan)
            print(json.dumps(plain, indent=2, default=str))
        else:
            print_comparison(results(), found)
        return 0

    def _baseline(self) -> int:
        if self.baseline is None:
            return 0
        places = [path.resolve() for path in self.run_paths]
        if self.baseline.resolve() not in places:
            raise InputError(
                f"--baseline: expected one of the runs that are compared, got {self.baseline}"
            )
        return places.index(self.baseline.resolve())


def print_comparison(console: Console, found: Comparison) -> None:
    """Print the figures, the tests, and what the marks mean.

    Args:
        console: where to.
        found: the comparison.
    """
    columns = list(found.runs[0].metrics)
    best = {column: found.best(column) for column in columns}
    figures = [
        (
            run.name,
            run.model,
            run.protocol,
            run.best_epoch or "–",
            *(_cell(run, column, place in best[column]) for column in columns),
        )
        for place, run in enumerate(found.runs)
    ]
    names = ("run", "model", "protocol", "epoch")
    console.print(f"{found.test_pairs:,} test pairs of {found.users:,} users")
    console.print(table((*names, *columns), figures, numbers=("epoch",)))
    base = found.runs[found.baseline]
    tests = [
        (
            run.name,
            column,
            f"{test.paired.difference:+.4f}",
            interval_text(test.paired),
            p_text(test.t_test_p),
            p_text(test.permutation_p),
        )
        for column in columns
        for run in found.runs
        if (test := run.tests.get(column)) is not None
    ]
    numbers = ("difference", "p, t-test", "p, permutation")
    headings = (f"against {base.name}", "metric", "difference", "95 % interval", *numbers[1:])
    console.print(table(headings, tests, numbers=numbers))
    console.print(
        f"▲ best of its column; against {base.name} * p < 0.05, ** p < 0.01 in both tests"
    )
    console.print(
        f"Paired over users, two-sided: t-test, and permutation test of all signs or {RESAMPLES:,} "
        f"of them; p by Holm over the tests of a metric, {len(found.runs) - 1}; interval by "
        f"bootstrap"
    )
    for note in dict.fromkeys(run.protocol_note for run in found.runs):
        console.print(f"Protocol {note}")
    for note in found.notes:
        console.print(f"Note: {note}")


def _cell(run: ComparedRun, column: str, is_best: bool) -> str:
    test = run.tests.get(column)
    marks = [] if test is None else [mark for mark, level in _LEVELS if test.p < level]
    return f"{run.metrics[column]:.4f}{'▲' if is_best else ''} {''.join(marks[:1])}".rstrip()


def interval_text(paired: PairedComparison) -> str:
    """The 95 % interval of a difference; a dash where there is none.

    Args:
        paired: the comparison.
    """
    return "–" if math.isnan(paired.low) else f"{paired.low:+.4f} to {paired.high:+.4f}"


def p_text(value: float) -> str:
    """A p value; a dash for NaN.

    Args:
        value: from 0 to 1.
    """
    if math.isnan(value):
        return "–"
    return f"{value:.4f}" if value >= 0.00005 else "<0.0001"


def _without_nan(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """A record for JSON, which lacks NaN: it is null."""
    missing = [name for name, value in fields if isinstance(value, float) and math.isnan(value)]
    return dict(fields) | dict.fromkeys(missing)
