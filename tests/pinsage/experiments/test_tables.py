"""Tables of the ablation say what the figures of its runs say."""

import io
import json

import pytest
import scipy.stats
from rich.console import Console

from pinsage_jax.config import PinSageConfig
from pinsage_jax.experiments.ablation import Result, Run
from pinsage_jax.experiments.claims import BY_DEFAULT, FEATURES, STATEMENTS, claims, grid
from pinsage_jax.experiments.experiment import DataSet, Variant
from pinsage_jax.experiments.table_1 import COMBINED, PINSAGE, RANDOM
from pinsage_jax.experiments.tables import (
    ablation_table,
    as_json,
    claims_table,
    difference,
    grid_table,
    new_pairs_table,
    rows_of,
    statement,
    verdict,
)

TINY = DataSet("tiny", PinSageConfig())


def lines_of(table):
    """The header, a rule, and a line for each row."""
    stream = io.StringIO()
    Console(file=stream, width=400).print(table)
    return [line for line in stream.getvalue().splitlines() if line.strip()]


def result(variant, seed, data=TINY, **figures):
    return Result(Run(data, variant, seed), figures, {})


def results(variant, values, name="mrr", data=TINY):
    return [result(variant, seed, data, **{name: one}) for seed, one in enumerate(values)]


def test_differences_are_taken_seed_by_seed():
    other = Variant("other", "trained")
    rows = rows_of([*results(PINSAGE, [0.5, 0.7, 0.9]), *results(other, [0.4, 0.5, 0.6, 0.1])])
    found = difference(*rows["tiny"], "mrr")
    half_width = scipy.stats.t.ppf(0.975, 2) * 0.1 / 3**0.5
    assert found[:2] == pytest.approx((3, 0.2))
    assert found.half_width == pytest.approx(half_width)
    assert (found.sign, str(found)) == (0, f"+0.2000 ± {half_width:.4f}")
    assert difference(*rows["tiny"], "triplets") is None


def test_verdict_names_each_ablation():
    def variant(name, values):
        return results(Variant(name, "trained"), values)

    rows = rows_of(
        [
            *variant("worse", [0.30, 0.31, 0.32]),
            *variant("alike", [0.30, 0.51, 0.60]),
            *variant("better", [0.60, 0.61, 0.62]),
            *results(PINSAGE, [0.50, 0.51, 0.52]),
        ]
    )
    line = verdict(rows["tiny"], "mrr")
    assert line == (
        "pinsage by MRR, over seeds: beats worse (+0.2000 ± 0.0000); is not told apart from alike "
        f"({difference(rows['tiny'][3], rows['tiny'][1], 'mrr')}); "
        "loses to better (-0.1000 ± 0.0000)"
    )
    one = rows_of([*results(PINSAGE, [0.5]), *variant("worse", [0.3])])
    assert (
        verdict(one["tiny"], "mrr") == "pinsage by MRR: +0.2000 to worse; one seed tells no spread"
    )
    assert verdict(rows["tiny"][:2], "mrr") is None


def test_ablation_table_holds_means_and_the_papers_figures():
    figures = {"hit_rate@10": 0.25, "hit_rate@100": 0.5, "seconds": 61.26}
    runs = [result(PINSAGE, seed, mrr=mrr, **figures) for seed, mrr in enumerate((0.1, 0.2))]
    lines = lines_of(ablation_table(rows_of([*results(RANDOM, [0.01]), *runs])["tiny"]))
    assert lines[0].split() == [
        *("variant", "seeds", "hit-rate@10", "hit-rate@100", "MRR"),
        *("seconds", "a", "run", "paper", "hit-rate", "paper", "MRR"),
    ]
    assert lines[2].split() == ["random", "1", "–", "–", "0.0100", "–", "–", "–"]
    assert lines[3].split() == [
        *("pinsage", "2", "0.2500", "±0.0000", "0.5000", "±0.0000", "0.1500", "±0.6353"),
        *("61.3", "0.67", "0.59"),
    ]


def test_new_partners_and_added_items_have_a_table_of_their_own():
    names = [
        *("new_partner/hit_rate@10", "new_partner/hit_rate@100", "new_partner/mrr"),
        *("fresh/hit_rate@10", "fresh/hit_rate@100", "fresh/known hit_rate@100"),
    ]
    figures = {name: (at + 1) / 10 for at, name in enumerate(names)}
    rows = rows_of([result(PINSAGE, 0, **figures), *results(RANDOM, [0.01])])["tiny"]
    lines = lines_of(new_pairs_table(rows))
    assert lines[0].split()[:4] == ["variant", "seeds", "new", "hit-rate@10"]
    assert lines[2].split() == ["pinsage", "1", *(f"{value:.4f}" for value in figures.values())]
    assert lines[3].split() == ["random", "1", *["–"] * 6]
    assert new_pairs_table(rows[1:]) is None


def test_grid_table_has_differences_from_features_alone():
    cells = {(one.data.world.graph_signal, one.data.world.visual_signal): one for one in grid()}
    noise, clear = cells[0, 1].data, cells[1, 0].data
    rows = rows_of(
        [
            *results(COMBINED, [0.30, 0.31, 0.32], data=noise),
            *results(PINSAGE, [0.20, 0.21, 0.22], data=noise),
            *results(COMBINED, [0.10, 0.11], data=clear),
            *results(PINSAGE, [0.20, 0.21], data=clear),
            *results(FEATURES, [0.10, 0.11], data=clear),
            *results(BY_DEFAULT, [0.30, 0.31], data=clear),
        ]
    )
    lines = lines_of(grid_table(list(rows.values())))
    assert lines[2].split()[:3] == ["0", "1", "3"]
    assert "-0.1000 ± 0.0000" in lines[2]
    assert lines[2].split()[-3:] == ["–"] * 3
    assert "+0.1000 ± 0.0000" in lines[3]
    assert lines[3].rstrip().endswith("+0.2000 ± 0.0000")


def test_claims_are_stated_with_their_spread():
    data, variants = claims()
    by_name = {one.name: one for one in variants}
    rows = rows_of(
        [
            *results(by_name["pinsage"], [0.50, 0.51], "hard_triplets", data),
            *results(by_name["no-hard"], [0.40, 0.41], "hard_triplets", data),
        ]
    )["claims"]
    claim = next(one for one in STATEMENTS if (one.first, one.second) == ("pinsage", "no-hard"))
    assert statement(rows, claim) == (
        "curriculum against no hard negatives: hard triplets +0.1000 ± 0.0000 (better)"
    )
    assert statement(rows, STATEMENTS[0]) is None
    assert "hard triplets" in lines_of(claims_table(rows))[0]


def test_all_figures_go_to_json():
    runs = [*results(PINSAGE, [0.5, 0.6]), *results(COMBINED, [0.4, 0.5])]
    value = json.loads(json.dumps(as_json(runs)))["tiny"]
    assert value["pinsage"]["seeds"] == {"0": {"mrr": 0.5}, "1": {"mrr": 0.6}}
    assert value["combined"]["paper"] == {"hit_rate": 0.27, "mrr": 0.37}
    assert value["combined"]["statistics"]["mrr"]["mean"] == pytest.approx(0.45)
    assert value["combined"]["pinsage_less_this"]["mrr"]["mean"] == pytest.approx(0.1)
