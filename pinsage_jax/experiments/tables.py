"""Finished runs as tables, and comparisons of one variant with another.

A mean is shown with the half width of its 95 % interval over seeds (Student's t). Two variants are
compared by their differences seed by seed, since runs of one seed have the same held-out pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from lightgcn_jax.cli.console import WholeTable, table
from lightgcn_jax.runs.summary import seed_statistics
from pinsage_jax.experiments.ablation import Result
from pinsage_jax.experiments.claims import Claim
from pinsage_jax.experiments.experiment import DataSet, Variant

QUALITY = {"hit_rate@10": "hit-rate@10", "hit_rate@100": "hit-rate@100", "mrr": "MRR"}
NEW_PARTNERS = {
    "new_partner/hit_rate@10": "new hit-rate@10",
    "new_partner/hit_rate@100": "new hit-rate@100",
    "new_partner/mrr": "new MRR",
}
FRESHNESS = {
    "fresh/hit_rate@10": "fresh hit-rate@10",
    "fresh/known hit_rate@10": "of known",
    "fresh/hit_rate@100": "fresh hit-rate@100",
    "fresh/known hit_rate@100": "of known",
}
TRIPLETS = {"triplets": "triplets", "hard_triplets": "hard triplets"}
SECONDS = {"seconds": "seconds a run"}
PAPER_NOTE = (
    "MRR has scale 1 and ranks are among all training items; new: pairs that share no training "
    "context, ranked without the items that share one with the query; fresh: held-out items, added "
    "after training, and the share of the known items' hit-rate that theirs is. The paper's "
    "figures are hit-rate@500 and MRR of scale 100 in a sample of 5 million: only the order "
    "compares."
)


class Row(NamedTuple):
    """All seeds of a variant on one data set.

    Attributes:
        data: the data set.
        variant: the variant.
        seeds: the figures of each finished seed.
    """

    data: DataSet
    variant: Variant
    seeds: dict[int, Mapping[str, float]]

    def statistics(self, name: str) -> dict[str, float]:
        """Compute mean and spread of a figure over the seeds that have it; empty where none has.

        Args:
            name: the figure.
        """
        values = [one[name] for one in self.seeds.values() if name in one]
        return seed_statistics(values) if values else {}

    def names(self) -> list[str]:
        """List the figures that any seed has."""
        return list(dict.fromkeys(name for one in self.seeds.values() for name in one))


class Difference(NamedTuple):
    """The mean difference of a figure over the seeds that both variants ran with.

    Attributes:
        seeds: how many seeds there are.
        mean: the mean of the first less the second.
        half_width: half the width of its 95 % interval; None for one seed, which has no spread.
    """

    seeds: int
    mean: float
    half_width: float | None

    @property
    def sign(self) -> int:
        """1 or −1 where the interval lies on one side of 0, else 0."""
        if self.half_width is None or abs(self.mean) <= self.half_width:
            return 0
        return 1 if self.mean > 0 else -1

    def __str__(self) -> str:
        spread = "" if self.half_width is None else f" ± {self.half_width:.4f}"
        return f"{self.mean:+.4f}{spread}"


def rows_of(results: Iterable[Result]) -> dict[str, list[Row]]:
    """Group runs by data set and by variant, in their order.

    Args:
        results: finished runs.
    """
    found: dict[str, dict[str, Row]] = {}
    for run, figures, _ in results:
        of_data = found.setdefault(run.data.name, {})
        row = of_data.setdefault(run.variant.name, Row(run.data, run.variant, {}))
        row.seeds[run.seed] = figures
    return {name: list(rows.values()) for name, rows in found.items()}


def difference(first: Row | None, second: Row | None, name: str) -> Difference | None:
    """Compute the first variant less the second; None without a seed that has both figures.

    Args:
        first: a row; None where the variant did not run.
        second: a row of the same data set, or None.
        name: the figure.
    """
    if first is None or second is None:
        return None
    both = [
        first.seeds[seed][name] - second.seeds[seed][name]
        for seed in first.seeds
        if seed in second.seeds and name in first.seeds[seed] and name in second.seeds[seed]
    ]
    if not both:
        return None
    found = seed_statistics(both)
    return Difference(len(both), found["mean"], found.get("ci95_half_width"))


def variants_table(
    rows: Sequence[Row], columns: Mapping[str, str], *, paper: bool = True
) -> WholeTable:
    """Make a table of variants, with the paper's figures where a row stands for one of its rows.

    Args:
        rows: the rows of one data set.
        columns: titles of the figures, by name.
        paper: False leaves the paper's figures out.
    """
    paper = paper and any(row.variant.paper for row in rows)
    titles = ["variant", "seeds", *columns.values()]
    if paper:
        titles += ["paper hit-rate", "paper MRR"]
    lines = []
    for row in rows:
        line = [row.variant.name, len(row.seeds), *(_cell(row, name) for name in columns)]
        if paper:
            of = row.variant.paper
            line += ["–", "–"] if of is None else [f"{of.hit_rate:.2f}", f"{of.mrr:.2f}"]
        lines.append(line)
    return table(titles, lines, numbers=titles[1:])


def ablation_table(rows: Sequence[Row]) -> WholeTable:
    """Make table 1 of one data set.

    Args:
        rows: the rows of the data set.
    """
    return variants_table(rows, QUALITY | SECONDS)


def new_pairs_table(rows: Sequence[Row]) -> WholeTable | None:
    """Make a table of what no training context told: new partners, and added items.

    Args:
        rows: the rows of one data set.

    Returns:
        The table; None where no row has any of its figures.
    """
    there = {name for row in rows for name in row.names()}
    shown = {name: one for name, one in (NEW_PARTNERS | FRESHNESS).items() if name in there}
    return variants_table(rows, shown, paper=False) if shown else None


def verdict(rows: Sequence[Row], name: str, best: str = "pinsage") -> str | None:
    """Say in one line which variants one of them beats by more than the spread over seeds.

    Args:
        rows: the rows of one data set.
        name: the figure.
        best: the variant that is compared with the others.

    Returns:
        The line; None where there is nothing to compare.
    """
    others = _by_name(rows)
    mine = others.pop(best, None)
    found = {other: difference(mine, row, name) for other, row in others.items()}
    pairs = {other: one for other, one in found.items() if one is not None}
    if not pairs:
        return None
    title = QUALITY.get(name, name)
    if all(one.half_width is None for one in pairs.values()):
        said = ", ".join(f"{one} to {other}" for other, one in pairs.items())
        return f"{best} by {title}: {said}; one seed tells no spread"
    parts = []
    for sign, words in ((1, "beats"), (0, "is not told apart from"), (-1, "loses to")):
        those = [f"{other} ({one})" for other, one in pairs.items() if one.sign == sign]
        if those:
            parts.append(f"{words} {', '.join(those)}")
    return f"{best} by {title}, over seeds: {'; '.join(parts)}"


def grid_table(cells: Sequence[Sequence[Row]], name: str = "mrr") -> WholeTable:
    """Make a table of worlds: PinSAGE, features alone, and their difference.

    The paper's settings come first, then the default's.

    Args:
        cells: the rows of each world of :func:`pinsage_jax.experiments.claims.grid`.
        name: the figure.
    """
    pairs = (("combined", "pinsage"), ("features-alone", "default"))
    titles = ["graph", "features", "seeds", "popularity"]
    titles += [title for pair in pairs for title in (*pair, "difference")]
    lines = []
    for rows in cells:
        by_name, world = _by_name(rows), rows[0].data.world
        assert world is not None
        shown: list[Any] = [_cell(by_name.get("popularity"), name)]
        for alone, with_graph in pairs:
            found = difference(by_name.get(with_graph), by_name.get(alone), name)
            shown += [_cell(by_name.get(one), name) for one in (alone, with_graph)]
            shown.append("–" if found is None else found)
        signals = (f"{world.graph_signal:g}", f"{world.visual_signal:g}")
        seeds = max(len(row.seeds) for row in rows)
        lines.append((*signals, seeds, *shown))
    return table(titles, lines, numbers=titles)


def claims_table(rows: Sequence[Row]) -> WholeTable:
    """Make a table of the variants of :func:`pinsage_jax.experiments.claims.claims`.

    Args:
        rows: their rows.
    """
    return variants_table(rows, QUALITY | TRIPLETS | SECONDS)


def statement(rows: Sequence[Row], claim: Claim) -> str | None:
    """Say a claim's differences in one line; None where a variant is missing.

    Args:
        rows: the rows of the claims.
        claim: the claim.
    """
    by_name, titles, parts = _by_name(rows), QUALITY | TRIPLETS, []
    first, second = by_name.get(claim.first), by_name.get(claim.second)
    for name in claim.figures:
        if (found := difference(first, second, name)) is not None:
            words = ("not told apart", "better", "worse")[found.sign]
            words = "one seed" if found.half_width is None else words
            parts.append(f"{titles[name]} {found} ({words})")
    return f"{claim.text}: {', '.join(parts)}" if parts else None


def as_json(results: Sequence[Result]) -> dict[str, Any]:
    """Collect all figures as a JSON value, by data set and variant: of the paper and of every seed.

    Args:
        results: finished runs.
    """
    return {
        data: {
            row.variant.name: {
                "paper": row.variant.paper and row.variant.paper._asdict(),
                "seeds": {str(seed): dict(figures) for seed, figures in row.seeds.items()},
                "statistics": {name: row.statistics(name) for name in row.names()},
                "pinsage_less_this": _compared(rows, row),
            }
            for row in rows
        }
        for data, rows in rows_of(results).items()
    }


def _compared(rows: Sequence[Row], row: Row) -> dict[str, Any] | None:
    mine = _by_name(rows).get("pinsage")
    if mine is None or mine is row:
        return None
    found = {name: difference(mine, row, name) for name in QUALITY | NEW_PARTNERS}
    return {name: one._asdict() for name, one in found.items() if one is not None}


def _by_name(rows: Sequence[Row]) -> dict[str, Row]:
    return {row.variant.name: row for row in rows}


def _cell(row: Row | None, name: str) -> str:
    found = row.statistics(name) if row else {}
    if not found:
        return "–"
    digits = 1 if name == "seconds" else 4
    width = found.get("ci95_half_width")
    spread = "" if width is None or name == "seconds" else f" ±{width:.{digits}f}"
    return f"{found['mean']:.{digits}f}{spread}"
