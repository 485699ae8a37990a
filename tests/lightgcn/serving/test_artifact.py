"""Programs and folders that leave the house, opened as strangers would open them."""

import dataclasses
import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import safetensors.numpy

from lightgcn_jax.errors import InputError
from lightgcn_jax.models import MLP, Popular
from lightgcn_jax.runs import fit
from lightgcn_jax.serving import Index, Recommender, export_program, save_folder
from lightgcn_jax.settings import ClosedFormConfig

STRANGER = """
    import sys
    import jax, jax.export
    import numpy as np
    stored = np.load(sys.argv[1])
    program = jax.export.deserialize(bytearray(stored["program"]))
    arrays = [stored[f"array_{at}"] for at in range(stored["num_arrays"])]
    for rows in ([4], [0, 3, 7, 9]):
        items, scores = program.call(np.array(rows, np.int32), *arrays)
        np.save(f"{sys.argv[2]}-{len(rows)}.npy", stored["item_ids"][items])
        np.save(f"{sys.argv[2]}-{len(rows)}-scores.npy", scores)
    assert not {name for name in sys.modules if name.split(".")[0] in ("lightgcn_jax", "flax")}
"""


@pytest.fixture(scope="module")
def run(small_split, small_config, tmp_path_factory):
    return fit(small_split, small_config, out=tmp_path_factory.mktemp("runs") / "run")


@pytest.mark.parametrize("score", [None, MLP(hidden=4)], ids=["inner", "network"])
def test_a_process_with_jax_alone_recommends_the_same(run, score, tmp_path):
    if score is not None:
        run = fit(run.split, dataclasses.replace(run.config, score=score))
    recommender = Recommender.from_fit(run)
    path = export_program(recommender, tmp_path / "recommend.npz", k=6)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-I", "-c", textwrap.dedent(STRANGER), path, tmp_path / "found"]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path)
    for rows in ([4], [0, 3, 7, 9]):
        found = np.load(tmp_path / f"found-{len(rows)}.npy")
        scores = np.load(tmp_path / f"found-{len(rows)}-scores.npy")
        expected = recommender.recommend(recommender.users.external(rows), 6)
        assert found.tolist() == [one.ids for one in expected]
        np.testing.assert_allclose(scores, [one.scores for one in expected], rtol=1e-5)


def test_what_is_no_program_is_refused(run, tmp_path):
    recommender = Recommender.from_fit(run)
    with pytest.raises(InputError, match=r"expected a name in \.npz"):
        export_program(recommender, tmp_path / "recommend.bin")
    with pytest.raises(InputError, match=r"k: expected 1 to 80 \(items\), got 81"):
        export_program(recommender, tmp_path / "recommend.npz", k=81)
    popular = Recommender.from_fit(fit(run.split, ClosedFormConfig(Popular(), ks=(5,))))
    with pytest.raises(InputError, match="expected a model with vectors, got popular"):
        export_program(popular, tmp_path / "recommend.npz")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_passed_on_opens_as_the_run_does(run, tmp_path):
    folder = save_folder(run.directory, tmp_path / "shared")
    names = {"README.md", "config.json", "model.safetensors", "summary.json", "sums.json"}
    assert {one.name for one in folder.iterdir()} == names | {"users.parquet", "items.parquet"}
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: lightgcn-pinsage-jax\n")
    assert f"| test | recall@10 | {run.summary['test']['recall@10']:.4f} |" in card
    assert "embeddings/users" in safetensors.numpy.load_file(folder / "model.safetensors")
    here, there = Recommender.from_run(run.directory), Recommender.load(folder)
    user, items = here.users.ids[3], here.items.ids[:4].to_list()
    for one, other in (
        (here.recommend(user, 5), there.recommend(user, 5)),
        (here.recommend_from(items, 5), there.recommend_from(items, 5)),
        (
            here.similar_items(items[0], 5),
            Recommender.load(run.directory).similar_items(items[0], 5),
        ),
    ):
        assert one.ids == other.ids
        np.testing.assert_array_equal(one.scores, other.scores)
    assert Recommender.load(run.directory).recommend(user, 5).ids == here.recommend(user, 5).ids
    with pytest.raises(InputError, match="expected a new or empty directory"):
        save_folder(run.directory, folder)
    (folder / "README.md").write_text("a card of one's own")
    Recommender.load(folder)
    tensors = bytearray((folder / "model.safetensors").read_bytes())
    tensors[-1] ^= 1
    (folder / "model.safetensors").write_bytes(tensors)
    with pytest.raises(InputError, match=r"model\.safetensors: has other bytes than were written"):
        Recommender.load(folder)
    (folder / "sums.json").unlink()
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"model\.safetensors: expected tensors of a run"):
        Recommender.load(folder)
    (folder / "summary.json").unlink()
    os.mkfifo(folder / "summary.json")
    with pytest.raises(InputError, match=r"summary\.json: expected a file or folder of the"):
        Recommender.load(folder)


def test_no_damaged_byte_is_passed_on(run, tmp_path):
    for name in ("embeddings.safetensors", "users.parquet"):
        damaged = shutil.copytree(run.directory, tmp_path / name)
        content = bytearray((damaged / name).read_bytes())
        content[-1] ^= 1
        (damaged / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: has other bytes than were written"):
            save_folder(damaged, tmp_path / "shared")
    assert not (tmp_path / "shared").exists()


def test_a_closed_form_is_passed_on_too(run, tmp_path):
    config = ClosedFormConfig(Popular(), ks=(5,))
    result = fit(run.split, config, out=tmp_path / "run")
    there = Recommender.load(save_folder(tmp_path / "run", tmp_path / "shared"))
    user = there.users.ids[0]
    assert there.recommend(user, 4).ids == Recommender.from_fit(result).recommend(user, 4).ids


def test_the_index_of_a_run_is_opened_without_it(run, tmp_path):
    recommender = Recommender.from_run(run.directory)
    path = recommender.index(target_recall=1.0).save(tmp_path / "index")
    user = recommender.users.ids[5]
    expected = recommender.recommend(user, 5, exclude_seen=False)
    [found] = Index.load(path).search(recommender.user_embeddings[5:6], 5)
    assert found.ids == expected.ids
