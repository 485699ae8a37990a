"""Distances of negatives are drawn as a picture."""

import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from pinsage_jax.runs import negative_distances
from pinsage_jax.runs.negative_distances import plot_distances


def test_the_plot_is_a_picture(tmp_path):
    rng = np.random.default_rng(0)
    distances = {"uniform": 2 * rng.random((3, 5)), "hard": np.array([0.0, 2.0004])}
    path = plot_distances(distances, tmp_path / "negatives.png")
    assert path == tmp_path / "negatives.png"
    assert path is not None
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [path]


def test_the_plot_needs_matplotlib_and_distances(tmp_path, monkeypatch):
    for values, found in (([], "none"), ([0.1, 3], "0.1 to 3.0"), ([np.nan], "nan to nan")):
        with pytest.raises(InputError, match=f"for 'hard', got {found}"):
            plot_distances({"hard": np.array(values)}, tmp_path / "negatives.png")
    monkeypatch.setattr(negative_distances.importlib.util, "find_spec", lambda _: None)
    assert plot_distances({"hard": np.ones(2)}, tmp_path / "negatives.png") is None
    assert not list(tmp_path.iterdir())
