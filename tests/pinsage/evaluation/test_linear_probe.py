"""The probe finds what is planted, nothing where nothing is, and the answer SciPy finds."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special

from lightgcn_jax.errors import InputError
from pinsage_jax.evaluation import linear_probe as probing
from pinsage_jax.evaluation.linear_probe import (
    average_precisions,
    best_threshold,
    linear_probe,
    micro_f1,
)

ROWS, DIM, CLASSES = 400, 6, 3


def planted(seed):
    """Vectors on very different scales whose classes a plane tells apart, with a few mistakes."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(DIM, CLASSES))
    clean = rng.normal(size=(ROWS, DIM))
    scores = clean @ directions
    vectors = (clean * 10.0 ** np.arange(DIM) / 100 + 5).astype(np.float32)
    return vectors, scores


def several_classes():
    vectors, scores = planted(2)
    return vectors, scores > 1


def train_rows(labelled):
    return labelled - round(0.2 * labelled)


TRAIN_ROWS = {False: train_rows(390), True: train_rows(several_classes()[1].any(axis=1).sum())}


def test_planted_classes_are_found():
    vectors, scores = planted(0)
    labels = scores.argmax(axis=1).astype(np.int32)
    labels[::40] = -1
    result = linear_probe(vectors, labels)
    assert result.metrics["accuracy"] > 0.9
    # The baseline is the share of the most frequent training class among the test rows.
    assert result.baseline["accuracy"] < 0.6
    assert (result.classes, result.unlabelled) == (CLASSES, 10)
    assert (result.train_rows, result.test_rows) == (TRAIN_ROWS[False], 78)
    assert result.penalty in probing.PENALTIES
    assert linear_probe(vectors, labels) == result
    assert linear_probe(vectors, labels, seed=1).metrics != result.metrics


def test_random_classes_are_not_found():
    vectors, scores = planted(1)
    rng = np.random.default_rng(1)
    labels = rng.permutation(scores.argmax(axis=1))
    labels[::40] = -1
    result = linear_probe(vectors, labels)
    deviation = np.sqrt(0.25 / result.test_rows)
    assert result.metrics["accuracy"] < result.baseline["accuracy"] + 3 * deviation
    # Where nothing can be learnt, what is chosen learns the least.
    assert result.penalty == max(probing.PENALTIES)


def test_planted_labels_of_several_classes_are_found():
    vectors, labels = several_classes()
    result = linear_probe(vectors, labels)
    unlabelled = int((~labels.any(axis=1)).sum())
    assert result.unlabelled == unlabelled > 0
    assert result.train_rows == TRAIN_ROWS[True]
    assert result.metrics["map"] > 0.95
    assert result.metrics["micro_f1"] > 0.9
    assert result.baseline["micro_f1"] < 0.8
    assert result.threshold is not None
    shuffled = linear_probe(vectors, np.random.default_rng(0).permutation(labels))
    assert shuffled.metrics["map"] < result.metrics["map"] - 0.2
    assert shuffled.metrics["map"] < shuffled.baseline["map"] + 0.15


@pytest.mark.parametrize("several", [False, True])
def test_a_fit_is_the_minimum(several):
    """Against SciPy's L-BFGS in float64 on the rows that count."""
    rng = np.random.default_rng(3)
    # As many rows as the other tests train on, so that they share a program.
    rows = TRAIN_ROWS[several]
    inputs = rng.normal(size=(rows, DIM))
    scores = inputs @ rng.normal(size=(DIM, CLASSES)) + rng.normal(size=(rows, CLASSES))
    truth = scores > 0.5 if several else scores.argmax(axis=1)[:, None] == np.arange(CLASSES)
    counts = rng.random(rows) < 0.8

    def loss(flat):
        weights, bias = flat[:-CLASSES].reshape(DIM, CLASSES), flat[-CLASSES:]
        logits = inputs @ weights + bias
        if several:
            each = (np.logaddexp(0, logits) - truth * logits).sum(axis=1)
        else:
            each = scipy.special.logsumexp(logits, axis=1) - (truth * logits).sum(axis=1)
        return each[counts].mean() + 0.05 * np.square(weights).sum()

    expected = scipy.optimize.minimize(loss, np.zeros((DIM + 1) * CLASSES)).x
    model, steps = probing._fit(
        probing._Model(jnp.zeros((DIM, CLASSES)), jnp.zeros(CLASSES)),
        jnp.asarray(inputs, jnp.float32),
        jnp.asarray(truth, jnp.float32),
        jnp.asarray(counts, jnp.float32),
        0.1,
        several=several,
    )
    np.testing.assert_allclose(np.asarray(model.weights).ravel(), expected[:-CLASSES], atol=2e-3)
    # Softmax leaves the level of the biases open.
    level = 0 if several else expected[-CLASSES:].mean() - np.asarray(model.bias).mean()
    np.testing.assert_allclose(np.asarray(model.bias) + level, expected[-CLASSES:], atol=2e-3)
    assert 1 < int(steps) < probing._MOST_STEPS


def test_average_precision_by_hand():
    scores = np.array([[4.0, 1], [3, 1], [2, 1], [1, 1]])
    truth = np.array([[True, True], [False, False], [True, False], [False, False]])
    # First class: hits at places 1 and 3; second class: all scores equal, so its frequency.
    np.testing.assert_allclose(average_precisions(scores, truth), [(1 + 2 / 3) / 2, 1 / 4])
    # The first two stand together: half of them are right, then two of three.
    scores[:2, 0] = 3
    np.testing.assert_allclose(average_precisions(scores, truth)[0], (1 / 2 + 2 / 3) / 2)
    assert np.isnan(average_precisions(scores, np.zeros_like(truth))).all()


def test_micro_f1_by_hand():
    truth = np.array([[True, False], [True, True]])
    predicted = np.array([[True, True], [False, True]])
    assert micro_f1(predicted, truth) == pytest.approx(2 * 2 / (3 + 3))
    assert micro_f1(~truth & False, truth & False) == 0


def test_the_threshold_is_the_best_of_all():
    rng = np.random.default_rng(4)
    for _ in range(20):
        scores = rng.integers(0, 6, (9, 2)).astype(float)
        truth = rng.random((9, 2)) < 0.4
        every = {value: micro_f1(scores >= value, truth) for value in np.unique(scores)}
        found = best_threshold(scores, truth)
        assert every[found] == pytest.approx(max(every.values()))


def test_a_constant_column_says_nothing():
    vectors = np.full((20, 2), 0.1, np.float32)
    vectors[:, 1] = np.arange(20)
    inputs = probing._standardised(vectors, np.arange(10))
    assert not inputs[:, 0].any()
    np.testing.assert_allclose(inputs[:10, 1].mean(), 0, atol=1e-6)
    np.testing.assert_allclose(inputs[:10, 1].std(), 1, rtol=1e-6)


VECTORS, LABELS = np.ones((12, 2), np.float32), np.arange(12) % 2


@pytest.mark.parametrize(
    ("vectors", "labels", "settings", "message"),
    [
        (VECTORS * np.nan, LABELS, {}, r"vectors: expected finite float\[items, dimensions\]"),
        (VECTORS[0], LABELS, {}, "vectors: expected finite"),
        (VECTORS, LABELS[:5], {}, r"labels: expected int\[12\] or bool\[12, classes\]"),
        (VECTORS, LABELS.astype(float), {}, "labels: .* got float64"),
        (VECTORS, LABELS - 2, {}, "labels: expected classes of 0 or more, or −1, got -2"),
        (VECTORS, LABELS * 0, {}, "labels: .* 2 classes, got 12 and 1"),
        (VECTORS, np.where(LABELS, LABELS, -1), {}, "labels: .* 10 labelled items .* got 6 and 2"),
        (VECTORS, LABELS, {"penalties": (0.0,)}, "penalties: expected positive numbers"),
    ],
)
def test_bad_input_is_named(vectors, labels, settings, message):
    with pytest.raises(InputError, match=message):
        linear_probe(vectors, labels, **settings)
