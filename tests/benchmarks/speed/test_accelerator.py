"""The accelerator benchmark shares its minutes out, and keeps what was measured, come what may."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from benchmarks.harness.children import ROOT
from benchmarks.speed import accelerator
from benchmarks.speed.accelerator import MARK, Stage, measure

# Little is left to one that hangs, and much to the one after it.
WEIGHTS = {"good": 1, "bad": 1, "slow": 0.5, "after": 3}
STAGES = [Stage(name, weight, 0.1, "it") for name, weight in WEIGHTS.items()]
SAYS = {
    "good": f"print('{MARK}', '{{\"a\": 1}}'); print('a line'); print('{MARK}', '{{\"b\": [2]}}')",
    "bad": f"print('{MARK}', '{{\"a\": 3}}', flush=True); print('worn out'); raise SystemExit(3)",
    "slow": f"import time; print('{MARK}', '{{\"a\": 4}}', flush=True); time.sleep(600)",
    "after": f"print('{MARK}', '{{\"a\": 5}}')",
}


def command(stage, seconds):
    assert seconds > 0
    return [sys.executable, "-c", SAYS[stage.name]]


def test_one_that_fails_or_hangs_leaves_the_others(tmp_path):
    path = tmp_path / "deep" / "kept.json"
    found = measure(STAGES, 40, path, command)
    assert found["good"] | {"seconds": 0} == {
        "status": "measured", "about": "it", "reason": None, "seconds": 0, "a": 1, "b": [2],
    }  # fmt: skip
    assert found["bad"]["status"] == "failed"
    assert found["bad"]["reason"] == "worn out"
    assert found["bad"]["a"] == 3
    assert found["slow"]["status"] == "cut off"
    assert found["slow"]["reason"].startswith("it had ")
    assert found["slow"]["a"] == 4
    assert found["after"]["status"] == "measured"
    assert json.loads(path.read_text())["details"] == found


def test_stages_that_do_not_fit_are_listed(tmp_path):
    stages = [Stage("good", 1, 1, "it"), Stage("after", 1, 1000, "it")]
    found = measure(stages, 30, tmp_path / "kept.json", command)
    assert found["good"]["status"] == "measured"
    assert found["after"]["status"] == "skipped"
    assert found["after"]["reason"].endswith("s were left, it takes 1000 s")


def test_a_call_that_is_killed_leaves_what_it_had(tmp_path):
    path = tmp_path / "kept.json"
    code = (
        "import pathlib\n"
        "from tests.benchmarks.speed.test_accelerator import STAGES, command, measure\n"
        f"measure([STAGES[0], STAGES[2]], 600, pathlib.Path({str(path)!r}), command)"
    )
    running = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, start_new_session=True)
    deadline = time.monotonic() + 120
    try:
        while time.monotonic() < deadline:
            known = json.loads(path.read_text())["details"] if path.exists() else {}
            if known.get("slow", {}).get("a") == 4:
                break
            time.sleep(0.1)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    known = json.loads(path.read_text())["details"]
    assert known["good"]["b"] == [2]
    assert known["slow"]["a"] == 4
    assert known["slow"]["status"] == "cut off"


def parsed(*words):
    parser = argparse.ArgumentParser()
    parser.add_argument("--json")
    parser.add_argument("--data-dir")
    accelerator.add_options(parser)
    return parser.parse_args(words)


def test_claims_are_of_errors_and_of_the_choice(tmp_path, monkeypatch):
    storages = {"a": {"errors": {"forward": 1e-7}}, "b": {"obstacle": "no"}, "c": {"error": "x"}}
    found = {"storages": {"status": "measured", "storages": storages, "auto_over_fastest": 1.3}}
    monkeypatch.setattr(accelerator, "measure", lambda *_: found)
    args = parsed("--stages", "storages", "--minutes", "0.5")
    args.json = tmp_path / "out.json"
    claims = {claim.name: claim for claim in accelerator.run(args).claims}
    assert claims["stages_measured"].holds
    assert claims["largest_error"].value == 1e-7
    assert claims["auto_over_fastest"].holds is False
    assert claims["auto_speedup_vs_torch_csr"].reason == "not measured"
    with pytest.raises(SystemExit):
        parsed("--minutes", "0")


@pytest.mark.slow
def test_a_dry_run_on_a_cpu_measures_everything(tmp_path):
    pytest.importorskip("torch", reason="needs PyTorch, which the bench extra brings")
    path = tmp_path / "out.json"
    words = ["--minutes", "40", "--rounds", "1", "--tiny", "--json", str(path)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    environment.pop("GRAPHREC_DATA", None)
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks", "accelerator", *words],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = json.loads(path.read_text())["details"]
    assert {name: one["reason"] for name, one in found.items()} == dict.fromkeys(found), ended
    assert found["device"]["platform"] == "cpu"
    of_storages = found["storages"]["storages"]
    measured = [one for one in of_storages.values() if "errors" in one]
    assert len(measured) >= 3
    assert all(max(one["errors"].values()) < 1e-4 for one in measured)
    assert not any("error" in one for one in of_storages.values())
    assert max(found["torch"]["errors"].values()) < 1e-4
    assert found["epoch"]["epoch_seconds"] > 0
    assert found["ranking"]["users_a_second"] > 0
    assert found["pinsage"]["step_seconds"] > 0
    curve = [one["recall@20"] for one in found["quality"]["curve"]]
    assert curve[-1] > 0
    assert len(curve) == 3
