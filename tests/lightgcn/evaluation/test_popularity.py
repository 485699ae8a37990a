"""Popularity's figures are those of the model ``popular``, and its rankings those of a set."""

import jax
import numpy as np
import pytest

from lightgcn_jax.data import generate_world, ratio_split
from lightgcn_jax.evaluation.parts import evaluation_sets, rank_parts
from lightgcn_jax.evaluation.popularity import first_unseen, popularity_figures
from lightgcn_jax.graph.bipartite import csr_rows, training_graph
from lightgcn_jax.models import Popular


def test_the_figures_are_those_of_the_model():
    world = generate_world(40, 30, mean_degree=8, groups=2, string_ids=False).interactions
    split = ratio_split(world, seed=0)
    sets, ks = evaluation_sets(split), (3, 30)
    scorer = Popular().fit(training_graph(split), jax.random.key(0))
    expected = rank_parts(scorer, sets, ("train", "valid", "test"), ks)
    for part, metrics in expected.items():
        assert popularity_figures(sets, part, ks) == pytest.approx(metrics), part


@pytest.mark.parametrize("k", [1, 4, 9])
def test_the_first_unseen_items_are_counted(k):
    rng = np.random.default_rng(k)
    seen = rng.random((6, 9)) < np.linspace(0, 1, 6)[:, None]
    order = rng.permutation(9).astype(np.int32)
    rows = np.array([5, 0, 3, 2])
    expected = [[item for item in order if not seen[row, item]] for row in rows]
    padded = [(one + [-1] * 9)[:k] for one in expected]
    found = first_unseen(order, csr_rows(*np.nonzero(seen), 6), rows, k)
    np.testing.assert_array_equal(found, padded)
    np.testing.assert_array_equal(first_unseen(order, None, rows, k), [order[:k]] * 4)


def test_a_part_without_pairs_has_no_figures():
    world = generate_world(40, 30, mean_degree=8, groups=2, string_ids=False).interactions
    split = ratio_split(world, 0.8, 0.0, 0.2, seed=0, allow_empty=True)
    assert popularity_figures(evaluation_sets(split), "valid", (3,)) == {}
