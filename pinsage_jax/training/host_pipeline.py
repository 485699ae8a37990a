"""Training where features and neighbours do not fit the device: the host gathers what a step needs.

Batches are drawn and their part of the graph is gathered in NumPy, a few steps ahead in a thread of
its own. The device takes the same step as in a compiled epoch. Laws, masks and capacities are those
of :mod:`pinsage_jax.training.step`; the draws come from another generator, so the same seed gives
other batches than on the device.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from pinsage_jax.config import PinSageConfig
from pinsage_jax.encoder.blocks import Capacities, LayerBlock
from pinsage_jax.graph.hashing import hashed
from pinsage_jax.tasks.pairs import PairSource
from pinsage_jax.training.batch import (
    HostItemArrays,
    Partners,
    Targets,
    log_expected_draws,
    of_none,
)

_AHEAD = 3


class Gathered(NamedTuple):
    """The arrays of a step, which :func:`pinsage_jax.training.step.batch_gradient` reads.

    Attributes:
        features: the features of the nodes of S_0, by input.
        blocks: K layers.
        targets: rows in the last layer.
        counts: ``int[K + 1]``, the sizes of S_0 … S_K.
        tier: which of the declared capacities hold the batch.
        log_expected: how often each negative is expected among the draws, or None
            (:func:`pinsage_jax.training.batch.log_expected_draws`).
    """

    features: dict[str, np.ndarray]
    blocks: tuple[LayerBlock, ...]
    targets: Targets
    counts: np.ndarray
    tier: int
    log_expected: np.ndarray | None


def batches(
    pairs: PairSource,
    items: HostItemArrays,
    config: PinSageConfig,
    capacities: tuple[Capacities, ...],
    *,
    steps: int,
    active: int,
    rng: np.random.Generator,
    done: int = 0,
) -> Iterator[Gathered]:
    """Gather the steps of an epoch, a few of them ahead of their use.

    Args:
        pairs: the source of training pairs.
        items: the arrays of the items.
        config: the settings.
        capacities: declared before the run, ascending; the last holds every batch.
        steps: how many steps the epoch has.
        active: how many hard negatives of a query count in this epoch.
        rng: the generator of this epoch; nobody else may draw from it.
        done: how many of the first steps are left out: drawn, and not gathered.
    """

    def gathered() -> Gathered:
        targets = draw(pairs, items, config, active, rng)
        return gather(targets, items, config, capacities, word_of(rng))

    for _ in range(min(done, steps)):
        draw(pairs, items, config, active, rng)
        word_of(rng)
    # One thread: batches are drawn in their order, so the generator's numbers fall to the same one.
    with ThreadPoolExecutor(1) as gathering:
        ahead = deque(gathering.submit(gathered) for _ in range(min(_AHEAD, steps - done)))
        for step in range(done, steps):
            ready = ahead.popleft().result()
            if step + _AHEAD < steps:
                ahead.append(gathering.submit(gathered))
            yield ready


def draw(
    pairs: PairSource,
    items: HostItemArrays,
    config: PinSageConfig,
    active: int,
    rng: np.random.Generator,
) -> Targets:
    """Draw a batch and its negatives, by item rows.

    Args:
        pairs: the source of training pairs.
        items: the arrays of the items.
        config: the settings.
        active: how many hard negatives of a query count in this epoch.
        rng: the generator that is drawn from.
    """
    size = config.batch_size
    queries, positives = pairs.draw(rng, size)
    shape = (size, config.negatives) if config.negative_choice == "separate" else config.negatives
    negatives = rng.choice(items.training_items, shape, p=items.law).astype(np.int32)
    hard = np.full((size, config.hard_negatives), -1, np.int32)
    if items.hard_pool is not None and active:
        own = _one_of(rng, queries)
        pool = np.where((own >= 0)[:, None], items.hard_pool[own], -1)
        luck = np.where(pool >= 0, rng.random(pool.shape), -1.0)
        best = np.argsort(-luck, axis=1)[:, :active]
        hard[:, :active] = np.take_along_axis(pool, best, axis=1)
    return Targets._make((queries, positives, negatives, hard))


def word_of(rng: np.random.Generator) -> np.uint32:
    """Draw what chooses the items without contexts of a step.

    Args:
        rng: the generator that is drawn from.
    """
    return rng.integers(0, 2**32, dtype=np.uint32)


def _one_of(rng: np.random.Generator, queries: np.ndarray) -> np.ndarray:
    """A random item of each query, −1 where it has none."""
    luck = np.where(queries >= 0, rng.random(queries.shape), -1.0)
    return np.take_along_axis(queries, luck.argmax(axis=1)[:, None], axis=1)[:, 0]


def gather(
    targets: Targets,
    items: HostItemArrays,
    config: PinSageConfig,
    capacities: tuple[Capacities, ...],
    word: np.uint32,
) -> Gathered:
    """Gather a batch's part of the graph, in the smallest declared capacities that hold it.

    Args:
        targets: the items of the batch.
        items: the arrays of the items.
        config: the settings.
        capacities: declared before the run, ascending; the last holds every batch.
        word: chooses the items without contexts: a random number, another in each step.
    """
    view = _View(targets, items, config, word)
    wanted = np.concatenate([part.reshape(-1) for part in targets])
    num_items = len(items.ids)
    layers = [_distinct(wanted, num_items)]
    near: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(config.layers):
        ids, weights = view.neighbors(layers[-1])
        near.append((ids, weights))
        layers.append(_distinct(np.concatenate([layers[-1], ids.reshape(-1)]), num_items))
    layers, near = layers[::-1], near[::-1]
    counts = np.array([len(rows) for rows in layers])
    tier = next(
        (at for at, sizes in enumerate(capacities) if (counts <= sizes).all()), len(capacities) - 1
    )
    blocks = tuple(
        _block(_places(below, num_items), rows, *of_rows, capacity)
        for below, rows, of_rows, capacity in zip(
            layers[:-1], layers[1:], near, capacities[tier][1:], strict=True
        )
    )
    nodes = np.pad(layers[0], (0, capacities[tier][0] - len(layers[0])))
    places = _places(layers[-1], num_items)
    placed = Targets._make(np.where(ids >= 0, places[ids], -1) for ids in targets)
    log_expected = log_expected_draws(targets, items.log_draws, config)
    return Gathered(view.features(nodes), blocks, placed, counts, tier, log_expected)


def _distinct(ids: np.ndarray, num_items: int) -> np.ndarray:
    """The items among some ids, ascending; −1 is nobody. A byte an item is marked and read through
    sooner than the ids of a batch are sorted, of which there are millions."""
    marks = np.zeros(num_items, bool)
    marks[ids[ids >= 0]] = True
    return np.flatnonzero(marks)


def _places(rows: np.ndarray, num_items: int) -> np.ndarray:
    """The place of each of some distinct items, by item; any number for other items."""
    places = np.zeros(num_items, np.int32)
    places[rows] = np.arange(len(rows), dtype=np.int32)
    return places


def _block(
    places: np.ndarray, rows: np.ndarray, ids: np.ndarray, weights: np.ndarray, capacity: int
) -> LayerBlock:
    empty = capacity - len(rows)
    return LayerBlock._make(
        (
            np.pad(places[rows], (0, empty)),
            np.pad(np.where(ids >= 0, places[ids], 0), ((0, empty), (0, 0))),
            np.pad(weights, ((0, empty), (0, 0))),
        )
    )


class _View:
    """A step's view of the items, as :class:`pinsage_jax.training.batch.TrainingView` in NumPy."""

    def __init__(
        self,
        targets: Targets,
        items: HostItemArrays,
        config: PinSageConfig,
        word: np.uint32,
    ):
        self._items = items
        self._share_lost = config.drop_contexts
        # Which items are lost is hashed, so that no number is drawn for one that no layer has.
        self._word = word
        self._partners = None
        if config.hides_targets:
            self._partners = Partners.on_host(targets, len(items.ids))

    def neighbors(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Neighbours and weights of a layer's rows."""
        ids, weights = self._items.ids[rows], self._items.weights[rows]
        hidden = np.zeros(ids.shape, bool)
        if self._partners is not None:
            hidden |= self._partners.hide(rows, ids)
        if self._share_lost:
            hidden |= self._lost(rows)[:, None]
        weights = np.where(hidden, 0, weights)
        total = weights.sum(axis=1, keepdims=True)
        weights = (weights / np.where(total > 0, total, 1)).astype(np.float32)
        return np.where(weights > 0, ids, -1), weights

    def features(self, nodes: np.ndarray) -> dict[str, np.ndarray]:
        """Features of the nodes; one without contexts has no degree and no structure."""
        taken = {name: values[nodes] for name, values in self._items.features.items()}
        if not self._share_lost:
            return taken
        lost = self._lost(nodes)[:, None]
        for name, value in of_none(self._items).items():
            taken[name] = np.where(lost, np.float32(value), taken[name])
        return taken

    def _lost(self, rows: np.ndarray) -> np.ndarray:
        """Which rows are without contexts in this step, ``bool[rows]``."""
        return hashed(rows.astype(np.uint32) ^ self._word) < self._share_lost * 2**32
