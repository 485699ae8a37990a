"""The Python of four other pages runs as it stands, in a small world."""

import re
from pathlib import Path

import pytest

import lightgcn_jax
from lightgcn_jax import LightGCN, Recommender, ratio_split
from lightgcn_jax.data import generate_world
from lightgcn_jax.language import HashedTfIdf
from lightgcn_jax.serving.artifact import export_program

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {"diffusion": 1, "filters": 1, "getting-started": 1, "serving": 5}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a run, and what stands at the prompt of somebody who follows a page."""
    folder = tmp_path_factory.mktemp("pages")
    world = generate_world(users=80, items=60, mean_degree=9, groups=4, seed=1).interactions
    split = ratio_split(world)
    few = {"dim": 8, "layers": 1, "epochs": 2, "batch_size": 256, "negatives": 16, "ks": (5,)}
    LightGCN(**few, verbose=False).fit(split, out=folder / "run")
    export_program(Recommender.from_run(folder / "run"), folder / "recommend.npz", k=5)
    columns = {"titles": "A title", "years": 1999, "genres": ["drama"], "tags": None}
    names = {name: [value] * len(split.items) for name, value in columns.items()}
    return folder, {"split": split, **names}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs(page, run, monkeypatch):
    folder, names = run
    names = dict(names)
    monkeypatch.chdir(folder)
    # Its weights are not here.
    monkeypatch.setattr(lightgcn_jax, "MiniLM", HashedTfIdf)
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == PAGES[page]
    for block in blocks:
        exec(compile(block, f"{page}.md", "exec"), names)
