"""The conversion benchmark converts the matrix that it says, and claims what was measured."""

import argparse
import itertools
import json

import pytest

from benchmarks.harness.process import Finished
from benchmarks.speed import conversion
from lightgcn_jax.diffusion import STORAGES


def test_the_matrix_has_its_entries_and_long_rows():
    matrix = conversion.generate_matrix(50_000)
    rows, _ = matrix.shape
    assert rows == 500
    assert 50_000 <= matrix.num_entries < 50_000 + rows
    assert matrix.lengths.min() >= 1
    assert matrix.lengths.max() > 5 * matrix.lengths.mean()


def test_a_conversion_is_timed():
    found = conversion.convert("bucketed", 2_000)
    assert found["seconds"] > 0
    assert found["slots_per_entry"] >= 1
    assert "seconds" not in conversion.convert("matrix alone", 2_000)


def report_of(monkeypatch, entries, status=0, options=()):
    """Conversions take 30 s, 31 s, 32 s …; that to bcoo ends with a status."""
    seconds = {name: itertools.count(30) for name in STORAGES}

    def child(name, entries):
        found = {"rows": 1, "entries": entries, "longest_row": 1}
        if name != "matrix alone":
            found["seconds"] = next(seconds[name])
        if name == "bucketed":
            found["slots_per_entry"] = 1.1
        return Finished(status if name == "bcoo" else 0, 40.0, 30.0, 2.5, json.dumps(found), "")

    monkeypatch.setattr(conversion, "_child", child)
    parser = argparse.ArgumentParser()
    conversion.add_options(parser)
    report = conversion.run(parser.parse_args(["--entries", str(entries), *options]))
    assert [claim.name for claim in report.claims] == [f"{name}_seconds" for name in STORAGES]
    return report


def test_claims_are_of_a_hundred_million_entries(monkeypatch):
    report = report_of(monkeypatch, 10**8)
    assert all(claim.value == 31 for claim in report.claims)
    # 31 s are too many for the storage that only copies three arrays.
    assert [claim.name for claim in report.claims if not claim.holds] == ["native_seconds"]
    assert report.details["bucketed_slots_per_entry"] == pytest.approx(1.1)
    smaller = report_of(monkeypatch, 10**6)
    assert all("1,000,000 entries" in (claim.reason or "") for claim in smaller.claims)


def test_claims_are_medians_of_several_processes(monkeypatch):
    report = report_of(monkeypatch, 10**8)
    assert report.settings["rounds"] == 3
    assert all(values == [30, 31, 32] for values in report.samples.values())
    single = report_of(monkeypatch, 10**8, options=["--rounds", "1"])
    assert all("at least 3 samples, got 1" in (claim.reason or "") for claim in single.claims)


def test_a_process_that_fails_is_reported(monkeypatch):
    claims = {claim.name: claim for claim in report_of(monkeypatch, 10**8, status=-9).claims}
    assert claims.pop("bcoo_seconds").holds is None
    assert claims.pop("native_seconds").value == 31
    assert all(claim.holds for claim in claims.values())
