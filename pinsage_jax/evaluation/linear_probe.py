"""Linear probe: what a linear classifier reads off frozen item vectors.

Logistic regression on vectors standardised by the training rows: multinomial for one class an item
(−1: none), one-vs-rest for several. Items without a class are left out. With n training rows,

    loss(W, b) = Σ_i loss_i / n + λ/2 ‖W‖²,

where loss_i is the cross-entropy, or the sum over classes of the binary ones; b is not penalised.
The problem is convex, so L-BFGS finds the one answer, and only the split is random. λ is chosen
from a grid by the loss on a fifth of the training rows, which then join the fit.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lightgcn_jax.arrays import Array, Float
from lightgcn_jax.errors import InputError

# From strong to weak, so that each fit starts near its answer.
PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
TEST_SHARE = 0.2
_CHOICE_SHARE = 0.2
_MOST_STEPS = 200
# Largest entry of the gradient of a mean loss in float32 that counts as zero.
_SMALL_GRADIENT = 1e-4
_FEWEST_ROWS = 10


class ProbeResult(NamedTuple):
    """The figures of a probe, and those of a baseline that sees no vectors.

    Attributes:
        metrics: figures of the test rows: ``accuracy`` where an item has one class, else
            ``micro_f1`` and ``map``, the mean average precision over the classes that test rows
            have.
        baseline: the same figures where everybody gets the most frequent class, or the training
            frequencies of the classes as scores.
        classes: C.
        train_rows: how many labelled items the classifier is fitted to.
        test_rows: how many labelled items were kept back.
        unlabelled: how many items are left out because they have no class.
        penalty: the λ that was chosen.
        threshold: the score from which a class is predicted, chosen with λ by micro-F1; None where
            an item has one class.
        steps: how many steps L-BFGS took in the last fit.
    """

    metrics: dict[str, float]
    baseline: dict[str, float]
    classes: int
    train_rows: int
    test_rows: int
    unlabelled: int
    penalty: float
    threshold: float | None
    steps: int


class _Model(NamedTuple):
    weights: Float[Array, "dim classes"]
    bias: Float[Array, " classes"]


def linear_probe(
    vectors: np.ndarray | Array,
    labels: np.ndarray,
    *,
    seed: int = 0,
    penalties: tuple[float, ...] = PENALTIES,
) -> ProbeResult:
    """Fit a linear classifier of the items' classes, and evaluate it.

    Args:
        vectors: ``float[I, D]``.
        labels: ``int[I]``, a class each, −1 for none; or ``bool[I, C]``.
        seed: the seed of the split into training and test rows; a fifth are test rows.
        penalties: the grid of λ.

    Raises:
        InputError: shapes or types do not fit, a vector is not finite, or there are fewer than two
            classes or ten labelled items.
    """
    vectors, labels = np.asarray(vectors), np.asarray(labels)
    _check(vectors, labels, penalties)
    several = labels.ndim == 2
    labelled = np.flatnonzero(labels.any(axis=1) if several else labels >= 0)
    classes = labels.shape[1] if several else int(labels.max(initial=-1)) + 1
    if len(labelled) < _FEWEST_ROWS or classes < 2:
        raise InputError(
            f"labels: expected at least {_FEWEST_ROWS} labelled items and 2 classes, "
            f"got {len(labelled)} and {classes}"
        )
    order = np.random.default_rng(seed).permutation(labelled)
    num_test = max(1, round(TEST_SHARE * len(order)))
    test, train = order[:num_test], order[num_test:]
    targets = labels if several else labels[:, None] == np.arange(classes)
    inputs = _standardised(vectors, train)
    kept = np.ones(len(train), np.float32)
    kept[: max(1, round(_CHOICE_SHARE * len(train)))] = 0
    rows = (jnp.asarray(inputs[train]), jnp.asarray(targets[train], jnp.float32))
    model, penalty = _choose(rows, jnp.asarray(kept), penalties, several)
    prior = np.broadcast_to(targets[train].mean(axis=0), targets.shape)
    threshold = prior_threshold = None
    if several:
        choice = train[kept == 0]
        threshold = best_threshold(_scores(model, inputs[choice]), targets[choice])
        # The baseline chooses its threshold on what it has: the training rows.
        prior_threshold = best_threshold(prior[train], targets[train])
    model, steps = _fit(model, *rows, jnp.ones(len(train)), penalty, several=several)
    metrics = _figures(_scores(model, inputs[test]), targets[test], threshold)
    baseline = _figures(prior[test], targets[test], prior_threshold)
    return ProbeResult(
        metrics, baseline, classes, len(train), len(test), len(labels) - len(labelled),
        penalty, threshold, int(steps),
    )  # fmt: skip


def _check(vectors: np.ndarray, labels: np.ndarray, penalties: tuple[float, ...]) -> None:
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or not np.isfinite(vectors).all():
        raise InputError(
            f"vectors: expected finite float[items, dimensions], "
            f"got {vectors.dtype}{list(vectors.shape)}"
        )
    one = labels.ndim == 1 and labels.dtype.kind in "iu"
    several = labels.ndim == 2 and labels.dtype.kind == "b"
    if not (one or several) or len(labels) != len(vectors):
        raise InputError(
            f"labels: expected int[{len(vectors)}] or bool[{len(vectors)}, classes], "
            f"got {labels.dtype}{list(labels.shape)}"
        )
    if one and labels.min(initial=0) < -1:
        raise InputError(f"labels: expected classes of 0 or more, or −1, got {labels.min()}")
    if not penalties or min(penalties) <= 0:
        raise InputError(f"penalties: expected positive numbers, got {penalties}")


def _standardised(vectors: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Mean 0 and deviation 1 over the training rows; a constant column becomes 0."""
    known = vectors[train].astype(np.float64)
    deviation = known.std(axis=0)
    # Rounding leaves a constant column some deviation, which must not be blown up.
    flat = deviation <= 1e-7 * np.abs(known).max(axis=0)
    deviation[flat] = np.inf
    return ((vectors - known.mean(axis=0)) / deviation).astype(np.float32)


def _choose(
    rows: tuple[Array, Array], kept: Array, penalties: tuple[float, ...], several: bool
) -> tuple[_Model, float]:
    """The λ with the least loss on the rows that are not kept, and its model of the kept ones."""
    inputs, targets = rows
    shape = inputs.shape[1], targets.shape[1]
    model = _Model(jnp.zeros(shape), jnp.zeros(shape[1]))
    best, found = np.inf, (model, penalties[0])
    for penalty in sorted(penalties, reverse=True):
        model, _ = _fit(model, inputs, targets, kept, penalty, several=several)
        loss = float(_loss(model, inputs, targets, 1 - kept, several))
        if loss < best:
            best, found = loss, (model, float(penalty))
    return found


@functools.partial(jax.jit, static_argnames="several")
def _fit(
    model: _Model, inputs: Array, targets: Array, weight: Array, penalty: float, *, several: bool
) -> tuple[_Model, Array]:
    """L-BFGS on all rows of weight 1 at once (Liu and Nocedal 1989), until the gradient is small.

    Rows that do not count have weight 0, so that one program serves the choice and the last fit.
    """

    def loss(model: _Model) -> Array:
        mean = _loss(model, inputs, targets, weight, several)
        return mean + 0.5 * penalty * jnp.square(model.weights).sum()

    optimizer = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(carry: Any) -> Any:
        model, state, _, count = carry
        value, grad = value_and_grad(model, state=state)
        updates, state = optimizer.update(grad, state, model, value=value, grad=grad, value_fn=loss)
        largest = optax.tree.norm(optax.tree.get(state, "grad"), ord=jnp.inf)
        return optax.apply_updates(model, updates), state, largest, count + 1

    def unfinished(carry):
        _, _, largest, count = carry
        return (largest > _SMALL_GRADIENT) & (count < _MOST_STEPS)

    start = model, optimizer.init(model), jnp.asarray(jnp.inf, jnp.float32), jnp.asarray(0)
    model, _, _, steps = jax.lax.while_loop(unfinished, step, start)
    return model, steps


@functools.partial(jax.jit, static_argnames="several")
def _loss(model: _Model, inputs: Array, targets: Array, weight: Array, several: bool) -> Array:
    """The mean over the rows, each with its weight."""
    logits = inputs @ model.weights + model.bias[None, :]
    if several:
        each = optax.sigmoid_binary_cross_entropy(logits, targets).sum(axis=1)
    else:
        each = optax.softmax_cross_entropy(logits, targets)
    return (each * weight).sum() / weight.sum()


def _scores(model: _Model, inputs: np.ndarray) -> np.ndarray:
    """Logits ``float32[n, C]``: they order the classes as probabilities do."""
    return inputs @ np.asarray(model.weights) + np.asarray(model.bias)


def _figures(scores: np.ndarray, truth: np.ndarray, threshold: float | None) -> dict[str, float]:
    """The accuracy where there is no threshold, since an item has one class."""
    if threshold is None:
        return {"accuracy": float((scores.argmax(axis=1) == truth.argmax(axis=1)).mean())}
    precisions = average_precisions(scores, truth)
    return {
        "micro_f1": micro_f1(scores >= threshold, truth),
        "map": float(np.nanmean(precisions)) if truth.any() else 0.0,
    }


def micro_f1(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Compute 2 · hits / (predicted + true) over all items and classes; 0 where there is neither.

    Args:
        predicted: ``bool[n, C]``.
        truth: ``bool[n, C]``.
    """
    hits, total = (predicted & truth).sum(), predicted.sum() + truth.sum()
    return float(2 * hits / total) if total else 0.0


def best_threshold(scores: np.ndarray, truth: np.ndarray) -> float:
    """Find the score that maximises micro-F1 when all scores from it on are predicted.

    Args:
        scores: ``float[n, C]``.
        truth: ``bool[n, C]``.
    """
    order = np.argsort(-scores, axis=None, kind="stable")
    ranked, hits = scores.ravel()[order], np.cumsum(truth.ravel()[order])
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + truth.sum())
    # Equal scores are predicted together.
    f1[:-1][ranked[:-1] == ranked[1:]] = 0
    return float(ranked[np.argmax(f1)])


def average_precisions(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Compute the average precision of each class: Σ_t (recall_t − recall_{t−1}) · precision_t.

    t runs over the distinct scores from the largest on, so that equal scores stand together. Where
    all items score the same, a class has its frequency.

    Args:
        scores: ``float[n, C]``.
        truth: ``bool[n, C]``.

    Returns:
        ``float64[C]``, NaN for a class that no item has.
    """
    result = np.full(truth.shape[1], np.nan)
    for at in np.flatnonzero(truth.any(axis=0)):
        order = np.argsort(-scores[:, at], kind="stable")
        ranked, hits = scores[order, at], np.cumsum(truth[order, at])
        ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
        found = hits[ends]
        gained = np.diff(found, prepend=0)
        result[at] = (gained * found / (ends + 1)).sum() / found[-1]
    return result
