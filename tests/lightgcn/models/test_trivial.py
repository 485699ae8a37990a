"""Most popular and random."""

import jax
import numpy as np
import scipy.stats

from lightgcn_jax.models import Popular, RandomScorer
from tests.lightgcn.worlds import NUM_ITEMS, graph_of, random_pairs

scores_of = jax.jit(lambda model, rows: model.scores(rows))


def random_scores(seed, users, items, rows=None):
    model = RandomScorer(jax.random.key(seed), num_queries=users, num_items=items)
    return np.asarray(scores_of(model, np.arange(users) if rows is None else rows))


def test_popularity_is_the_number_of_training_users():
    users, items = random_pairs(0)
    scores = scores_of(Popular().fit(graph_of(users, items), jax.random.key(0)), np.array([0, 3]))
    counts = np.bincount(items, minlength=NUM_ITEMS)
    np.testing.assert_array_equal(scores, np.stack([counts, counts], axis=1))


def test_random_scores_belong_to_seed_user_and_item():
    whole = random_scores(5, 6, 50)
    np.testing.assert_array_equal(random_scores(5, 6, 50, np.array([4, 1, 4])), whole[:, [4, 1, 4]])
    assert (random_scores(6, 6, 50) != whole).mean() > 0.99
    assert whole.dtype == np.float32
    assert (whole >= 0).all()
    assert (whole < 1).all()


def test_random_scores_are_uniform():
    """Chi-square of the values and of who is best among ten, for many users and for many items."""
    many_users, many_items = random_scores(1, 40_000, 10), random_scores(2, 4, 100_000)
    for scores in (many_users, many_items):
        counts = np.histogram(scores, bins=200, range=(0, 1))[0]
        assert scipy.stats.chisquare(counts).pvalue > 1e-3
    best = np.bincount(many_users.argmax(axis=0), minlength=10)
    assert scipy.stats.chisquare(best).pvalue > 1e-3


def test_random_scores_of_users_and_items_are_independent():
    """Joint cells of two users' and of neighbouring items' scores, against the product law."""
    scores = random_scores(3, 2, 100_000)
    for one, other in ((scores[:, 0], scores[:, 1]), (scores[:-1, 0], scores[1:, 0])):
        cells = np.histogram2d(one, other, bins=10, range=((0, 1), (0, 1)))[0]
        assert scipy.stats.chisquare(cells.ravel()).pvalue > 1e-3
