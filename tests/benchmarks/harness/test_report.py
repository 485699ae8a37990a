"""The harness alternates, compares medians, claims no more than it can, and keeps whole files."""

import json
import sys
from functools import partial

import numpy as np
import pytest
from rich.console import Console

from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.harness import report as harness
from benchmarks.harness.known_peers import KNOWN, doubt
from benchmarks.harness.process import run_measured
from benchmarks.harness.report import Claim, Report, alternate, ratio_claim, ratio_of_medians
from benchmarks.speed.ingest import write_events


def report(**fields) -> Report:
    claims = [
        Claim("speedup", 6.0, "×", ">=", 5.0, interval=(5.5, 6.5)),
        Claim("peak", None, "GB", "<", 1.5, reason="left out"),
        Claim("difference", float("nan"), "", "<", 1e-5),
    ]
    samples = {"ours": [1.0, 2.0], "peer": [6.0, 7.0]}
    return Report(
        **({"name": "one", "settings": {"rounds": 2}} | fields), samples=samples, claims=claims
    )


class Contenders:
    """Calls that take so many seconds on a clock of their own, and the order that they came in."""

    def __init__(self, **seconds: float):
        self.order: list[str] = []
        self.rests: list[float] = []
        self.now = 0.0
        self.calls = {name: partial(self._call, name, took) for name, took in seconds.items()}

    def _call(self, name: str, took: float) -> None:
        self.order.append(name)
        self.now += took

    def rest(self, seconds: float) -> None:
        self.order.append("rest")
        self.rests.append(seconds)


def test_contenders_are_timed_one_by_one_after_the_warm_up():
    given = Contenders(a=1.0, b=3.0)
    samples = alternate(given.calls, rounds=3, warmups=2, clock=lambda: given.now, pause=0)
    assert given.order[:4] == ["a", "b"] * 2
    assert len(given.order) == 10
    assert samples == {"a": [1.0] * 3, "b": [3.0] * 3}


def test_every_round_begins_with_another_contender():
    given = Contenders(a=1.0, b=2.0, c=3.0)
    alternate(given.calls, rounds=4, warmups=0, clock=lambda: given.now, pause=0)
    assert given.order == ["a", "b", "c", "b", "c", "a", "c", "a", "b", "a", "b", "c"]


def test_a_contender_starts_when_the_others_threads_sleep(monkeypatch):
    given = Contenders(a=1.0, b=2.0)
    monkeypatch.setattr(harness.time, "sleep", given.rest)
    samples = alternate(given.calls, rounds=2, warmups=1, clock=lambda: given.now)
    assert given.order == ["a", "b", *["rest", "a", "rest", "b"], *["rest", "b", "rest", "a"]]
    # Four times the 5 ms for which OpenMP's threads spin; the rest is not part of a sample.
    assert set(given.rests) == {0.02}
    assert samples == {"a": [1.0] * 2, "b": [2.0] * 2}


def test_the_ratio_is_of_medians_and_lies_in_its_interval():
    ratio = ratio_of_medians([10.0, 11.0, 90.0], [2.0, 1.0, 3.0])
    assert ratio.value == 11.0 / 2.0
    assert ratio.interval is not None
    low, high = ratio.interval
    assert low <= ratio.value <= high
    assert ratio_of_medians([10.0, 11.0, 90.0], [2.0, 1.0, 3.0]) == ratio


def test_rounds_are_resampled_whole():
    # Noise that a round's samples share leaves their ratio alone; drawn apart, it would widen it.
    mood = [1.0, 1.5, 2.0, 3.0, 5.0]
    slower = [4 * seconds for seconds in mood]
    ratio = ratio_of_medians(slower, mood)
    assert ratio.interval == pytest.approx((4.0, 4.0))
    apart = ratio_of_medians(slower, mood[:4]).interval
    assert apart is not None
    assert apart[1] - apart[0] > 1


def test_a_single_sample_has_no_interval():
    assert ratio_of_medians([78.0], [1.0, 2.0, 3.0]) == (39.0, None)


@pytest.mark.parametrize(
    ("relation", "value", "holds"),
    [
        (">=", 5.0, True),
        (">=", 4.9, False),
        ("<=", 5.0, True),
        ("<=", 5.1, False),
        ("<", 5.0, False),
        ("<", 4.9, True),
        ("<", float("nan"), False),
    ],
)
def test_whether_a_claim_holds_is_computed(relation, value, holds):
    assert Claim("c", value, "s", relation, 5.0).holds is holds


def test_a_claim_has_a_value_or_a_reason():
    assert Claim("c", None, "s", "<", 5.0, reason="not run").holds is None
    for value, reason in ((None, None), (1.0, "not run")):
        with pytest.raises(ValueError, match="expected a value or a reason"):
            Claim("c", value, "s", "<", 5.0, reason=reason)


def test_a_slow_peer_voids_the_claim_until_explained():
    known, ours = KNOWN["training step"]
    assert doubt("training step", [1.25 * known], [ours]) is None
    slow = [1.26 * known] * 3
    reason = doubt("training step", slow, [ours])
    assert reason is not None
    assert "26% more" in reason
    claim = ratio_claim("speedup", slow, [0.1] * 3, ">=", 5.0, reason)
    assert (claim.value, claim.holds, claim.reason) == (None, None, reason)
    explained = doubt("training step", slow, [ours], "half the memory bandwidth")
    claim = ratio_claim("speedup", slow, [0.1] * 3, ">=", 5.0, explained)
    assert claim.value == pytest.approx(12.6 * known)
    assert claim.holds


def test_a_slow_machine_slows_both_sides_and_voids_nothing():
    known, ours = KNOWN["training step"]
    busy = [3 * known] * 3
    assert doubt("training step", busy, [3 * ours] * 3) is None
    assert doubt("training step", busy, [2.41 * ours] * 3) is None  # 3 / 2.41 < 1.25
    reason = doubt("training step", busy, [2.3 * ours] * 3)
    assert reason is not None
    assert "200% more than" in reason
    assert "ours 130% more" in reason
    # Ours that is faster than known is no sign of a fast machine.
    assert doubt("training step", [1.2 * known], [0.5 * ours]) is None


def test_the_json_has_everything(tmp_path):
    path = tmp_path / "new" / "one.json"
    harness.write_json(report(), path)
    kept = json.loads(path.read_text())
    assert {"name", "date", "versions", "hardware", "threads", "settings", "samples"} <= set(kept)
    assert {"python", "jax", "jaxlib", "numpy"} <= set(kept["versions"])
    assert {"cpu", "cores", "memory_gb"} <= set(kept["hardware"])
    assert kept["samples"] == {"ours": [1.0, 2.0], "peer": [6.0, 7.0]}
    speedup, peak, difference = kept["claims"]
    assert speedup == {
        "name": "speedup",
        "value": 6.0,
        "unit": "×",
        "relation": ">=",
        "target": 5.0,
        "interval": [5.5, 6.5],
        "reason": None,
        "holds": True,
    }
    assert (peak["value"], peak["holds"], peak["reason"]) == (None, None, "left out")
    assert (difference["value"], difference["holds"]) == (None, False)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "one.json"
    path.write_text("old")
    with pytest.raises(TypeError):
        harness.write_json(report(settings={"table": np.zeros(2)}), path)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(harness.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        harness.write_json(report(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_printed_report_names_every_claim():
    console = Console(record=True, width=120)
    harness.print_report(report(), console)
    text = console.export_text()
    for word in ("ours", "peer", "speedup", "5.5 to 6.5", "left out", "difference"):
        assert word in text


def test_an_unknown_benchmark_is_one_line_and_status_2(capsys):
    assert main(["nope"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert "train_step" in printed.err


def test_help_lists_the_benchmarks(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in BENCHMARKS)


def test_a_child_is_measured_without_its_parent():
    ballast = np.ones(50_000_000)
    ended = run_measured([sys.executable, "-c", "print('done'); raise SystemExit(3)"])
    assert ballast.nbytes == 400_000_000
    assert (ended.status, ended.output.strip()) == (3, "done")
    assert 0.001 < ended.peak_gb < 0.2
    assert ended.seconds > 0
    grown = run_measured([sys.executable, "-c", "len(bytes(1) * 300_000_000)"])
    assert 0.3 < grown.peak_gb < 0.5


def test_a_failed_child_has_last_words():
    ended = run_measured([sys.executable, "-c", "raise ValueError('so there')"])
    assert ended.status == 1
    assert ended.last_words() == "ValueError: so there"


def test_events_are_seeded(tmp_path):
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    for path in (one, other):
        write_events(path, 1000)
    assert one.read_bytes() == other.read_bytes()
    header, *rows = one.read_text().splitlines()
    assert header == "user,item,rating,timestamp"
    assert len(rows) == 1000


@pytest.mark.slow
def test_a_small_ingest_runs_and_claims_nothing(tmp_path, capsys):
    path = tmp_path / "ingest.json"
    assert main(["ingest", "--rows", "2000", "--rounds", "1", "--json", str(path)]) == 0
    kept = json.loads(path.read_text())
    assert [claim["holds"] for claim in kept["claims"]] == [None, None]
    assert sum(kept["details"]["pairs"].values()) <= 2000
    assert "csv_10m_seconds" in capsys.readouterr().out
