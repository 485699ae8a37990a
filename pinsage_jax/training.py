"""Training: epochs as compiled chunks, evaluated on validation as they go.

An epoch's pairs are drawn on the host and handed over in chunks of steps; a chunk is one compiled
program, and the next chunk's pairs are drawn while it runs. Everything drawn depends on the seed
and the epoch alone, so a run that was killed ends as one that was not.

The learning rate rises linearly over the first epoch and then decays exponentially (Ying et al.
2018, section 3.3, which gives no constants).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lightgcn_jax.arrays import Array, PRNGKey, Scalar
from lightgcn_jax.errors import InputError
from pinsage_jax.blocks import Capacities, bounds, declared_capacities, mark_layers
from pinsage_jax.config import PinSageConfig
from pinsage_jax.curriculum import active_hard
from pinsage_jax.encoder import PinSage, init_params
from pinsage_jax.holdout import HeldOut, Task
from pinsage_jax.inference import ItemVectors, embed_all
from pinsage_jax.judging import judge
from pinsage_jax.preparation import Prepared, neighbors_of, stream, world_of
from pinsage_jax.step import (
    Batch,
    StepRecord,
    TrainState,
    World,
    draw_targets,
    num_targets,
    train_step,
    training_view,
)

_STEPS_AT_ONCE = 50
_TRIALS = 8
METRIC = "mrr"
"""What validation chooses the epoch by."""


class Reporter(Protocol):
    """Receives a run's events; every method may do nothing."""

    def noted(self, message: str) -> None: ...

    def advanced(self, *, epoch: int, share: float, loss: float, seconds_a_step: float) -> None: ...

    def evaluated(self, record: dict[str, Any]) -> None: ...


class Silent:
    """Says nothing."""

    def noted(self, message: str) -> None: ...

    def advanced(self, *, epoch: int, share: float, loss: float, seconds_a_step: float) -> None: ...

    def evaluated(self, record: dict[str, Any]) -> None: ...


class TrainingDiverged(InputError):
    """The loss is no number."""


class Progress(NamedTuple):
    """How far a run is: what a checkpoint holds.

    Attributes:
        state: parameters and moments after ``epoch``.
        best: parameters of the best epoch so far.
        epoch: epochs done.
        best_epoch: 0 before the first evaluation.
        best_value: of the metric on validation.
    """

    state: TrainState
    best: Any
    epoch: int
    best_epoch: int
    best_value: float


Chunk = Callable[[TrainState, Batch, Array, Scalar, World], tuple[TrainState, StepRecord]]


class Trainer:
    """One run: what is compiled, what is drawn, how far it is."""

    def __init__(
        self,
        task: Task,
        config: PinSageConfig,
        prepared: Prepared,
        reporter: Reporter | None = None,
    ):
        self.task, self.config, self.prepared = task, config, prepared
        self.reporter = reporter or Silent()
        pairs = task.pairs
        if not pairs.num_pairs:
            raise InputError("pairs: expected at least one query–positive pair to train on")
        self.steps = config.steps_per_epoch or -(-pairs.num_pairs // config.batch_size)
        self.world = world_of(task, prepared, config)
        self.optimizer = make_optimizer(config, self.steps)
        self.capacities = self._declare()
        self.chunk = make_chunk(prepared.model, self.optimizer, config, self.capacities)
        self.tiers = np.zeros(len(self.capacities), int)

    def start(self) -> Progress:
        """Before the first step."""
        params = init_params(stream(self.config, "init"), self.prepared.model)
        state = TrainState(params, self.optimizer.init(params))
        # A chunk gives up the state that it was handed, so the best parameters are a copy.
        return Progress(state, jax.tree.map(jnp.copy, params), 0, 0, -np.inf)

    def _declare(self) -> tuple[Capacities, ...]:
        """The capacities of the run, from trial batches of its first epoch."""
        config, pairs = self.config, self.task.pairs
        targets = num_targets(config, pairs.query_items)
        rows, neighbors = self.world.table.ids.shape
        most = bounds(targets, neighbors, config.layers, rows)
        drawn = pairs.draw(self._rng(0), _TRIALS * config.batch_size)
        batches = _stacked(drawn, _TRIALS, config.batch_size)
        count = functools.partial(count_nodes, config=config, most=most)
        cap = jnp.int32(config.hard_cap)
        keys = jax.random.split(jax.random.fold_in(stream(config, "steps"), 0), _TRIALS)
        counts = [
            np.asarray(
                count(keys[i], jax.tree.map(lambda part, i=i: part[i], batches), cap, self.world)
            )
            for i in range(_TRIALS)
        ]
        return declared_capacities(counts, most)

    def _rng(self, epoch: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, epoch])

    def _chunks(self, epoch: int) -> Iterator[tuple[int, Batch]]:
        """The epoch's batches, a few steps at a time, each drawn while the one before runs."""
        rng, size = self._rng(epoch), self.config.batch_size
        starts = list(range(0, self.steps, _STEPS_AT_ONCE))

        def draw(start: int) -> Batch:
            steps = min(_STEPS_AT_ONCE, self.steps - start)
            return _stacked(self.task.pairs.draw(rng, steps * size), steps, size)

        with ThreadPoolExecutor(1) as drawing:
            ahead = drawing.submit(draw, starts[0])
            for place, start in enumerate(starts):
                batches = ahead.result()
                if place + 1 < len(starts):
                    ahead = drawing.submit(draw, starts[place + 1])
                yield start, batches

    def train_epoch(self, progress: Progress) -> tuple[Progress, float]:
        """One epoch, and the mean of its losses.

        Raises:
            TrainingDiverged: a loss is no number; the line names the step.
        """
        config, epoch = self.config, progress.epoch + 1
        if config.refresh_every and epoch > 1 and (epoch - 1) % config.refresh_every == 0:
            table = neighbors_of(self.prepared.graph, config, epoch=epoch)
            self.world = self.world.replace(table=table)
            self.prepared = self.prepared._replace(table=table)
        active = jnp.int32(active_hard(config.curriculum, epoch, config.hard_cap, config.epochs))
        key = jax.random.fold_in(stream(config, "steps"), epoch)
        state, losses = progress.state, []
        for start, batches in self._chunks(epoch):
            steps = batches.positives.shape[0]
            keys = jax.vmap(functools.partial(jax.random.fold_in, key))(start + jnp.arange(steps))
            before = time.perf_counter()
            state, records = self.chunk(state, batches, keys, active, self.world)
            values = np.asarray(records.loss)
            taken = (time.perf_counter() - before) / steps
            _check_losses(values, epoch, start)
            self.tiers += np.bincount(np.asarray(records.tier), minlength=len(self.tiers))
            losses.append(values)
            self.reporter.advanced(
                epoch=epoch,
                share=(start + steps) / self.steps,
                loss=float(values.mean()),
                seconds_a_step=taken,
            )
        return progress._replace(state=state, epoch=epoch), float(np.concatenate(losses).mean())

    def vectors(self, params: Any) -> ItemVectors:
        """z of all items, held-out ones without contexts among them."""
        prepared = self.prepared
        return embed_all(prepared.model, params, prepared.features, prepared.table)

    def judge(self, params: Any, held_out: HeldOut) -> dict[str, float]:
        """Figures of one part."""
        vectors = self.vectors(params).vectors
        return judge(self.prepared.model, params, vectors, held_out)

    def advance(self, progress: Progress) -> tuple[Progress, dict[str, Any]]:
        """One epoch, and its record; judged on validation where it is due."""
        started = time.perf_counter()
        progress, loss = self.train_epoch(progress)
        record: dict[str, Any] = {"epoch": progress.epoch, "loss": loss}
        due = progress.epoch % self.config.evaluate_every == 0
        if due or progress.epoch == self.config.epochs:
            record["valid"] = self.judge(progress.state.params, self.task.valid)
            if record["valid"][METRIC] > progress.best_value:
                progress = progress._replace(
                    best=jax.tree.map(jnp.copy, progress.state.params),
                    best_epoch=progress.epoch,
                    best_value=record["valid"][METRIC],
                )
        record["seconds"] = time.perf_counter() - started
        self.reporter.evaluated(record)
        return progress, record

    def finished(self, progress: Progress) -> bool:
        """Whether no epoch is left, or patience is at its end."""
        config = self.config
        if progress.epoch >= config.epochs:
            return True
        waited = (progress.epoch - progress.best_epoch) // config.evaluate_every
        return bool(config.patience) and progress.best_epoch > 0 and waited >= config.patience

    def tier_note(self) -> str:
        """How often which capacities were taken."""
        parts = [
            f"{count:,} steps within {' + '.join(f'{size:,}' for size in sizes)} nodes"
            for sizes, count in zip(self.capacities, self.tiers, strict=True)
        ]
        return "; ".join(parts)


def make_optimizer(config: PinSageConfig, steps_per_epoch: int) -> optax.GradientTransformation:
    """Adam under a linear warm-up and an exponential decay by ``decay`` an epoch."""
    warmup = round(config.warmup_epochs * steps_per_epoch)
    decay = optax.exponential_decay(config.learning_rate, steps_per_epoch, config.decay)
    if not warmup:
        return optax.adam(decay)
    rise = optax.linear_schedule(config.learning_rate / warmup, config.learning_rate, warmup)
    return optax.adam(optax.join_schedules([rise, decay], [warmup]))


def make_chunk(
    model: PinSage,
    optimizer: optax.GradientTransformation,
    config: PinSageConfig,
    capacities: tuple[Capacities, ...],
) -> Chunk:
    """Several steps as one compiled program: ``(state, batches, keys, active, world)`` to the new
    state and a record a step; the old state is given up."""

    def chunk(
        state: TrainState, batches: Batch, keys: PRNGKey, active: Scalar, world: World
    ) -> tuple[TrainState, StepRecord]:
        def step(state: TrainState, given: tuple[Batch, PRNGKey]) -> tuple[TrainState, StepRecord]:
            batch, key = given
            return train_step(
                state,
                batch,
                key,
                active,
                world,
                model=model,
                optimizer=optimizer,
                config=config,
                capacities=capacities,
            )

        return jax.lax.scan(step, state, (batches, keys))

    return jax.jit(chunk, donate_argnums=0)


@functools.partial(jax.jit, static_argnames=("config", "most"))
def count_nodes(
    key: PRNGKey,
    batch: Batch,
    active: Scalar,
    world: World,
    *,
    config: PinSageConfig,
    most: Capacities,
) -> Array:
    """The sizes of S_0 … S_K of a batch as a step would draw it, ``int32[K + 1]``."""
    draw_key, view_key = jax.random.split(key)
    targets = draw_targets(draw_key, batch, world, active, config)
    view = training_view(view_key, targets, world, config)
    return mark_layers(view.table, targets.ids, config.layers, most).counts


def _stacked(drawn: Any, steps: int, size: int) -> Batch:
    queries, positives = np.asarray(drawn.queries), np.asarray(drawn.positives)
    return Batch(
        jnp.asarray(queries.reshape(steps, size, -1)),
        jnp.asarray(positives.reshape(steps, size)),
        jnp.ones((steps, size), jnp.float32),
    )


def _check_losses(values: np.ndarray, epoch: int, start: int) -> None:
    odd = np.flatnonzero(~np.isfinite(values))
    if odd.size:
        raise TrainingDiverged(
            f"the loss is {values[odd[0]]} at step {start + int(odd[0]) + 1} of epoch {epoch}; "
            "try a smaller learning_rate or a larger temperature"
        )
