"""The page on objects of one's own runs as it stands, and does what it says."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from lightgcn_jax.runs import RunDirectory, SilentReporter, compare_runs, evaluate_run, fit, resume
from lightgcn_jax.runs.trainer import Trainer

PAGE = (Path(__file__).parent.parent / "docs" / "own-model.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """What the page's code leaves: its names, its printed lines and its folder."""
    folder, printed = tmp_path_factory.mktemp("page"), []
    # The objects are known by their module; a reader's is a file of that name.
    names = {"__name__": "my_model", "print": lambda *values: printed.extend(values)}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in BLOCKS:
            exec(compile(block, "own-model.md", "exec"), names)
    return names | {"folder": folder, "printed": printed}


def test_everything_is_shown_in_about_ten_lines():
    for block in BLOCKS:
        for definition in re.split(r"\n\n\n", block.strip()):
            if definition.startswith(("@", "def ")):
                code = re.sub(r'""".*?"""', "", definition, flags=re.DOTALL)
                assert sum(bool(line.strip()) for line in code.splitlines()) <= 11, definition


def test_the_run_learns_and_serves(page):
    recall, recommended, similar, near = page["printed"]
    # Ten of about 70 unseen items at random would find a seventh.
    assert recall > 0.25
    history = page["result"].history
    assert history[-1]["loss"] < history[0]["loss"] / 1.5
    seen = page["recommender"].recommend("user-3", 80).ids
    assert recommended == seen[:5]
    assert len(set(similar) - {"item-7"}) == len(near) == 5
    with np.load(page["folder"] / "own-vectors.npz") as stored:
        np.testing.assert_array_equal(stored["users"], page["result"].user_embeddings)
        assert stored["item_ids"].tolist() == page["result"].split.items.ids.to_list()


def test_the_directory_says_what_is_ones_own(page):
    written = json.loads((page["folder"] / "own-run" / "config.json").read_text())
    assert written["own"] == {
        "model": "my_model.Mixed(dim=16, share=0.4)",
        "loss": "my_model.squared_hinge",
        "negatives": "my_model.from_interactions",
    }
    assert written["optimizer"] == "custom"
    assert {name: written["config"][name] for name in ("model", "loss", "negative_sampler")} == {
        "model": "own",
        "loss": "own",
        "negative_sampler": "own",
    }
    assert not {"dim", "layers", "temperature", "negatives"} & written["config"].keys()


def test_a_run_that_is_broken_off_ends_as_one_that_was_not(page, tmp_path):
    class Copy(SilentReporter):
        def advanced(self, *, epochs, **_):
            if epochs == 3:
                shutil.copytree(tmp_path / "run", tmp_path / "killed")

    objects = page["own"] | {"optimizer": page["optimizer"]}
    settings = dataclasses.replace(page["config"], checkpoint_seconds=0.0)
    fit(page["split"], settings, **objects, out=tmp_path / "run", reporter=Copy())
    resume(tmp_path / "killed", **objects)
    whole, killed = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "killed")
    for one, other in zip(whole.embeddings(), killed.embeddings(), strict=True):
        assert one.tobytes() == other.tobytes()
    for file in ("metrics.jsonl", "embeddings.safetensors"):
        expected = (page["folder"] / "own-run" / file).read_bytes()
        assert (tmp_path / "run" / file).read_bytes() == expected
        assert (tmp_path / "killed" / file).read_bytes() == expected


def test_runs_are_evaluated_and_compared(page):
    own, near = page["folder"] / "own-run", page["folder"] / "near-run"
    figures = evaluate_run(own, (10,))
    assert figures["test"] == page["result"].summary["test"]
    assert figures["model"] == "Mixed"
    assert (
        evaluate_run(near, (10,), score=page["Distance"]())["test"] == page["near"].summary["test"]
    )
    comparison = compare_runs([own, near], 10, own=[page["Distance"]()])
    assert [run.metrics["recall@10"] for run in comparison.runs] == pytest.approx(
        [page[name].summary["test"]["recall@10"] for name in ("result", "near")]
    )


def test_a_storage_of_ones_own_gives_the_same_run(page):
    graph = Trainer(page["result"].split, page["result"].config, None, None, SilentReporter()).graph
    degrees = np.concatenate(
        [np.asarray(rows.lengths()) for rows in (graph.items_of_user, graph.users_of_item)]
    )
    # Ã D^½ 1 = D^½ 1 where every node has an edge.
    operator, root = page["operator"], np.sqrt(degrees)[:, None].astype(np.float32)
    np.testing.assert_allclose(operator @ root, root, rtol=1e-5)
    assert page["vectors"].shape == (len(degrees), 4)
    losses = [[record["loss"] for record in page[name].history] for name in ("result", "dense")]
    np.testing.assert_allclose(*losses, rtol=1e-4)
