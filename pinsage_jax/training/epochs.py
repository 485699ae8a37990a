"""The steps of an epoch: compiled in chunks over tables on the device, or fed from the host."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lightgcn_jax.arrays import Array, PRNGKey, Scalar
from lightgcn_jax.diffusion import Operator
from pinsage_jax.config import PinSageConfig, stream
from pinsage_jax.encoder.blocks import Capacities, bounds, declared_capacities
from pinsage_jax.encoder.pinsage import PinSage
from pinsage_jax.graph.neighborhoods import NeighborTable
from pinsage_jax.tasks.pairs import PairSource
from pinsage_jax.tasks.task import Task
from pinsage_jax.training.batch import (
    Batch,
    HostItemArrays,
    ItemArrays,
    draw_targets,
    num_targets,
    pooling_of,
    training_view,
)
from pinsage_jax.training.division import ALONE, Division
from pinsage_jax.training.folds import Fold
from pinsage_jax.training.host_pipeline import batches, draw, gather, word_of
from pinsage_jax.training.preparation import Prepared, host_item_arrays, item_arrays
from pinsage_jax.training.step import StepRecord, TrainState, batch_gradient, moved, train_step

_STEPS_AT_ONCE = 50
# Batches that are drawn before a run to see how many nodes they have.
_TRIALS = 8

Chunk = Callable[[TrainState, Batch, Array, Scalar, ItemArrays], tuple[TrainState, StepRecord]]


class _Epochs:
    """The part that both ways of running an epoch share.

    Attributes:
        folds: what the steps read, one fold after another.
    """

    def __init__(
        self, task: Task, config: PinSageConfig, prepared: Prepared, division: Division = ALONE
    ):
        self._config, self.folds, self._division = config, prepared.folds, division
        num_items, neighbors = prepared.table.ids.shape
        targets = num_targets(config, task.pairs.query_items, division.count)
        self._most = bounds(targets, neighbors, config.layers, num_items)

    def _turns(self, epoch: int, steps: int) -> Iterator[tuple[int, range]]:
        """The folds of an epoch and the steps of each; another fold begins each time."""
        count = len(self.folds)
        ends = [(turn + 1) * steps // count for turn in range(count)]
        for turn, (start, end) in enumerate(itertools.pairwise([0, *ends])):
            if start < end:
                yield (epoch + turn) % count, range(start, end)

    def _rng(self, epoch: int) -> np.random.Generator:
        # The 1 tells its numbers from those of a generated world, drawn from [seed, part].
        return np.random.default_rng([self._config.seed, epoch, 1])

    def _key(self, epoch: int) -> PRNGKey:
        return jax.random.fold_in(stream(self._config, "steps"), epoch)


class DeviceEpochs(_Epochs):
    """Epochs of a run whose features and neighbours lie on the device.

    An epoch's pairs are drawn on the host and handed over in chunks of steps. A chunk is one
    compiled program, and the next chunk's pairs are drawn while it runs.
    """

    def __init__(
        self,
        task: Task,
        config: PinSageConfig,
        prepared: Prepared,
        optimizer: optax.GradientTransformation,
        division: Division = ALONE,
    ):
        super().__init__(task, config, prepared, division)
        self._items = item_arrays(task, prepared, config, division)
        self._pooling: dict[int, tuple[NeighborTable, Operator | None]] = {}
        # The tables of the last fold and what they were made of: folds have most in common.
        self._laid_out: dict[Any, tuple[Any, Any]] = {}
        self.capacities = self._declared()
        made = prepared.model, optimizer, config, self.capacities
        self._chunk = make_chunk(*made, division)

    def _items_of(self, fold: Fold) -> ItemArrays:
        features = {name: self._table(name, values) for name, values in fold.features.items()}
        near = {"ids": fold.table.ids, "weights": fold.table.weights}
        table = NeighborTable(
            **{name: self._table(("neighbours", name), values) for name, values in near.items()}
        )
        return dataclasses.replace(self._items, table=table, features=features)

    def _table(self, name: Any, values: Any) -> Any:
        if name not in self._laid_out or self._laid_out[name][0] is not values:
            self._laid_out[name] = values, self._division.table(values)
        return self._laid_out[name][1]

    def _pooling_of(self, turn: int) -> Operator | None:
        """The matrix of a fold's neighbours, made anew when these were drawn anew; none on a mesh,
        whose devices embed their own parts of a batch."""
        if self._division.mesh is not None:
            return None
        table = self.folds[turn].table
        if turn not in self._pooling or self._pooling[turn][0] is not table:
            self._pooling[turn] = table, pooling_of(table, self._config, self.capacities)
        return self._pooling[turn][1]

    def run(
        self, state: TrainState, epoch: int, *, steps: int, active: int, done: int = 0
    ) -> Iterator[tuple[TrainState, StepRecord]]:
        """Train an epoch, and yield the state after every few steps with their figures.

        Args:
            state: the state before the epoch; its arrays are given up.
            epoch: the epoch, from 1.
            steps: how many steps it has.
            active: how many hard negatives of a query count in it.
            done: how many of its steps ``state`` has behind it; they are drawn and not taken.
        """
        key_of = jax.vmap(functools.partial(jax.random.fold_in, self._key(epoch)))
        rng = self._rng(epoch)
        for turn, places in self._turns(epoch, steps):
            fold = self.folds[turn]
            items = dataclasses.replace(self._items_of(fold), pooling=self._pooling_of(turn))
            for start, chunk in self._chunks(rng, fold.pairs, places):
                if start < done:
                    continue
                keys = key_of(start + jnp.arange(chunk.positives.shape[0]))
                chunk, keys, counted = self._division.placed((chunk, keys, jnp.int32(active)))
                state, records = self._chunk(state, chunk, keys, counted, items)
                yield state, records

    def _chunks(
        self, rng: np.random.Generator, pairs: PairSource, steps: range
    ) -> Iterator[tuple[int, Batch]]:
        size, starts = self._config.batch_size, steps[::_STEPS_AT_ONCE]

        def drawn(start: int) -> Batch:
            count = min(_STEPS_AT_ONCE, steps.stop - start)
            return _stacked(pairs.draw(rng, count * size), count, size)

        with ThreadPoolExecutor(1) as drawing:
            ahead = drawing.submit(drawn, starts[0])
            for place, start in enumerate(starts):
                ready = ahead.result()
                if place + 1 < len(starts):
                    ahead = drawing.submit(drawn, starts[place + 1])
                yield start, ready

    def _declared(self) -> tuple[Capacities, ...]:
        config, fold = self._config, self.folds[0]
        items = self._items_of(fold)
        drawn = fold.pairs.draw(self._rng(0), _TRIALS * config.batch_size)
        trials = _stacked(drawn, _TRIALS, config.batch_size)
        keys = jax.random.split(self._key(0), _TRIALS)
        batches = [jax.tree.map(lambda part, at=at: part[at], trials) for at in range(_TRIALS)]
        settings = {"config": config, "most": self._most, "division": self._division}

        def counted(key: PRNGKey, batch: Batch, active: int) -> np.ndarray:
            key, batch, most = self._division.placed((key, batch, jnp.int32(active)))
            return np.asarray(count_nodes(key, batch, most, items, **settings))

        counts = [
            [counted(key, batch, active) for key, batch in zip(keys, batches, strict=True)]
            for active in _actives(config)
        ]
        return declared_capacities(counts, self._most)


class HostEpochs(_Epochs):
    """Epochs of a run whose features and neighbours lie on the host, which gathers ahead."""

    def __init__(
        self,
        task: Task,
        config: PinSageConfig,
        prepared: Prepared,
        optimizer: optax.GradientTransformation,
    ):
        super().__init__(task, config, prepared)
        self._items = host_item_arrays(task, prepared, config)
        self.capacities = self._declared()
        self._step = make_host_step(prepared.model, optimizer, config)

    def _items_of(self, fold: Fold) -> HostItemArrays:
        ids, weights = np.asarray(fold.table.ids), np.asarray(fold.table.weights)
        return self._items._replace(ids=ids, weights=weights, features=fold.features)

    def run(
        self, state: TrainState, epoch: int, *, steps: int, active: int, done: int = 0
    ) -> Iterator[tuple[TrainState, StepRecord]]:
        """Train an epoch, and yield the state after every step with its figures.

        Args:
            state: the state before the epoch; its arrays are given up.
            epoch: the epoch, from 1.
            steps: how many steps it has.
            active: how many hard negatives of a query count in it.
            done: how many of its steps ``state`` has behind it; they are drawn and not taken.
        """
        key, rng = self._key(epoch), self._rng(epoch)
        for turn, places in self._turns(epoch, steps):
            fold = self.folds[turn]
            skipped = min(max(0, done - places.start), len(places))
            numbers = {"steps": len(places), "active": active, "rng": rng, "done": skipped}
            items = self._items_of(fold)
            ahead = batches(fold.pairs, items, self._config, self.capacities, **numbers)
            for step, given in zip(places[skipped:], ahead, strict=True):
                state, records = self._step(state, jax.random.fold_in(key, step), given)
                yield state, records

    def _declared(self) -> tuple[Capacities, ...]:
        rng, config, fold = self._rng(0), self._config, self.folds[0]
        items = self._items_of(fold)

        def trial(active: int) -> np.ndarray:
            targets = draw(fold.pairs, items, config, active, rng)
            return gather(targets, items, config, (self._most,), word_of(rng)).counts

        counts = [[trial(active) for _ in range(_TRIALS)] for active in _actives(config)]
        return declared_capacities(counts, self._most)


def _actives(config: PinSageConfig) -> list[int]:
    """The fewest and the most hard negatives that count for a query in some epoch."""
    return sorted({0, config.hard_negatives})


def make_chunk(
    model: PinSage,
    optimizer: optax.GradientTransformation,
    config: PinSageConfig,
    capacities: tuple[Capacities, ...],
    division: Division = ALONE,
) -> Chunk:
    """Compile several steps as one program.

    Args:
        model: the encoder.
        optimizer: what turns gradients into updates.
        config: the settings.
        capacities: declared before the run, ascending; the last holds every batch.
        division: how batches are divided among devices.

    Returns:
        ``(state, batches, keys, active, items)`` to the new state and the figures of each step; the
        old state is given up.
    """

    def chunk(
        state: TrainState, batches: Batch, keys: PRNGKey, active: Scalar, items: ItemArrays
    ) -> tuple[TrainState, StepRecord]:
        settings = {"model": model, "optimizer": optimizer, "config": config, "division": division}

        def step(state: TrainState, given: tuple[Batch, PRNGKey]) -> tuple[TrainState, StepRecord]:
            return train_step(state, *given, active, items, capacities=capacities, **settings)

        return jax.lax.scan(step, state, (batches, keys))

    return jax.jit(chunk, donate_argnums=0)


@functools.partial(jax.jit, static_argnames=("config", "most", "division"))
def count_nodes(
    key: PRNGKey,
    batch: Batch,
    active: Scalar,
    items: ItemArrays,
    *,
    config: PinSageConfig,
    most: Capacities,
    division: Division = ALONE,
) -> Array:
    """Count the nodes of S_0 … S_K of a batch, as a step would draw it; the most of any device.

    Args:
        key: consumed.
        batch: the pairs.
        active: ``int32[]``, how many hard negatives of a query count.
        items: the arrays of the items.
        config: the settings.
        most: capacities that hold every batch.
        division: how the batch is divided among devices.

    Returns:
        ``int32[K + 1]``.
    """

    def of_device(keys: Array, batch: Batch, active: Scalar, items: ItemArrays) -> Array:
        targets = draw_targets(keys[0], batch, items, active, config)
        view = training_view(keys[1], targets, items, config)
        own = division.own_targets(targets)
        return division.most(division.find_layers(view, own.ids, config.layers, most).counts)

    return division.each(of_device, jax.random.split(key), batch, active, items)


def make_host_step(
    model: PinSage, optimizer: optax.GradientTransformation, config: PinSageConfig
) -> Callable[..., tuple[TrainState, StepRecord]]:
    """Compile a step from gathered arrays: one program for each of the declared capacities.

    Args:
        model: the encoder.
        optimizer: what turns gradients into updates.
        config: the settings.

    Returns:
        ``(state, key, gathered)`` to the new state and the figures of the step, as one row.
    """

    # What was gathered on the host, arrays of the device by now.
    def step(state: TrainState, key: PRNGKey, given: Any) -> tuple[TrainState, StepRecord]:
        weights = jnp.ones(len(given.targets.positives), jnp.float32)
        read = given.features, given.blocks, given.targets
        settings = {"model": model, "config": config, "log_expected": given.log_expected}
        loss, gradient = batch_gradient(state.params, key, *read, weights, **settings)
        records = StepRecord(loss, given.counts, given.tier)
        return moved(state, gradient, optimizer), jax.tree.map(lambda one: one[None], records)

    return jax.jit(step, donate_argnums=0)


def _stacked(drawn: Any, steps: int, size: int) -> Batch:
    queries, positives = np.asarray(drawn.queries), np.asarray(drawn.positives)
    return Batch(
        jax.device_put(queries.reshape(steps, size, -1)),
        jax.device_put(positives.reshape(steps, size)),
        jnp.ones((steps, size), jnp.float32),
    )
