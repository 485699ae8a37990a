"""The loop: chunks of steps, evaluation and selection at epoch ends, checkpoints between."""

from __future__ import annotations

import dataclasses
import shlex
import time
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lightgcn_jax.arrays import NodeTable
from lightgcn_jax.data.pairs import PARTS
from lightgcn_jax.data.splits import Split
from lightgcn_jax.diffusion.choice import choose_backend
from lightgcn_jax.diffusion.operator import diffusion_operator
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.scorer import InnerProduct, Scorer
from lightgcn_jax.models import lightgcn
from lightgcn_jax.models.lightgcn import LightGCNParams, split_nodes
from lightgcn_jax.training.checkpoint import checkpoint_folders, save_checkpoint
from lightgcn_jax.training.clock import compile_seconds
from lightgcn_jax.training.config import TrainConfig
from lightgcn_jax.training.interrupt import Interrupted, deferred_interrupt
from lightgcn_jax.training.optimizer import make_optimizer
from lightgcn_jax.training.ordering import kept_order, training_ordering
from lightgcn_jax.training.plots import plot_curves
from lightgcn_jax.training.progress import Reporter
from lightgcn_jax.training.protocol import (
    SELECTION_PART,
    Arena,
    open_arena,
    rank_parts,
    training_graph,
)
from lightgcn_jax.training.run_directory import RunDirectory
from lightgcn_jax.training.step import (
    Run,
    TrainState,
    epoch_order,
    make_chunk,
    plan_chunks,
)
from lightgcn_jax.training.summary import summarize


class TrainingDiverged(InputError):
    """The loss is no longer a finite number."""


class TrainArrays(NamedTuple):
    """The arrays of a checkpoint; the leading axis is the seed.

    Attributes:
        states: parameters, optimizer state and step count.
        best: parameters of each seed's best epoch so far.
    """

    states: TrainState
    best: LightGCNParams

    @classmethod
    def start(cls, states: TrainState) -> TrainArrays:
        """States before the first step; the chunk donates their buffers, so the best parameters
        get their own."""
        return cls(states, jax.tree.map(jnp.copy, states.params))


class Trained(NamedTuple):
    """What training gives: the figures, the history, and what ranks by the final embeddings of the
    best epoch."""

    summary: dict[str, Any]
    history: list[dict[str, Any]]
    scorer: Scorer


@dataclasses.dataclass
class Progress:
    """The host's side of a checkpoint: where training stands and what it has seen.

    Attributes:
        epoch: epochs done.
        chunk: chunks of the next epoch that are done.
        loss_sums: per seed, the sum of the losses of this epoch's steps so far.
        best_epochs: per seed, 0 before the first evaluation.
        best_values: per seed, of the selection metric.
        misses: per seed, evaluations since the best one.
        history: the records of metrics.jsonl.
        train_seconds, compile_seconds, evaluate_seconds: time spent, over all resumes.
    """

    loss_sums: list[float]
    best_epochs: list[int]
    best_values: list[float]
    misses: list[int]
    epoch: int = 0
    chunk: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    train_seconds: float = 0.0
    compile_seconds: float = 0.0
    evaluate_seconds: float = 0.0

    @classmethod
    def start(cls, seeds: int) -> Progress:
        # Metrics are at least 0, so any first evaluation improves on −1.
        return cls([0.0] * seeds, [0] * seeds, [-1.0] * seeds, [0] * seeds)


class Trainer:
    """One run's compiled functions and arrays on the device."""

    def __init__(
        self,
        split: Split,
        config: TrainConfig,
        optimizer: optax.GradientTransformation | None,
        directory: RunDirectory | None,
        reporter: Reporter,
    ):
        self.config, self.directory, self.reporter = config, directory, reporter
        self.arena: Arena = open_arena(split)
        self.graph = graph = training_graph(split)
        if config.negatives * graph.users_of_item.longest >= 2**31:
            raise InputError(
                f"negatives: {config.negatives} items with up to {graph.users_of_item.longest:,} "
                f"users each are more than 32-bit counters hold; choose fewer"
            )
        self.backend = choose_backend(config.backend, num_entries=2 * graph.num_edges).name
        self.ordering = training_ordering(
            config, graph.num_edges, self.backend, own_optimizer=optimizer is not None
        )
        self.plan = plan_chunks(graph.num_edges, graph.num_nodes, config)
        self.optimizer = optimizer or make_optimizer(config, self.plan.steps_per_epoch)
        seeds = jnp.arange(config.seed, config.seed + config.seeds)
        # One stream each for initial embeddings, steps and epoch orders.
        self._init_keys, self._step_keys, self._order_keys = (
            jax.vmap(lambda seed, use=use: jax.random.fold_in(jax.random.key(seed), use))(seeds)
            for use in range(3)
        )
        self._orders = jax.jit(
            jax.vmap(
                lambda key, epoch: epoch_order(
                    jax.random.fold_in(key, epoch), graph.num_edges, config
                ),
                in_axes=(0, None),
            )
        )
        self._embed = jax.jit(
            lambda params, operator: lightgcn.apply(params, operator, config.lightgcn)
        )
        self._keep_best = jax.jit(_keep_best, donate_argnums=0)
        self._order_epoch = -1

    @cached_property
    def run(self) -> Run:
        """What the steps read."""
        order = kept_order(self.graph, self.ordering, self.directory)
        operator = diffusion_operator(
            self.graph, backend=self.backend, ordering="none" if order is None else order
        )
        return Run.of(self.graph, operator, self.config)

    def initial_states(self) -> TrainState:
        """States of all seeds before the first step."""

        def start(key):
            params = lightgcn.init(key, self.graph.num_nodes, self.config.lightgcn)
            return TrainState(params, self.optimizer.init(params), jnp.zeros((), jnp.int32))

        return jax.jit(jax.vmap(start))(self._init_keys)

    def array_template(self) -> TrainArrays:
        """Shapes and types of a checkpoint's arrays."""
        states = jax.eval_shape(self.initial_states)
        return TrainArrays(states, states.params)

    def train(self, arrays: TrainArrays, progress: Progress) -> Trained:
        """Train from where ``progress`` stands to the end, then rank test and write the figures."""
        if not self._is_over(progress):
            arrays = self._run_epochs(arrays, progress)
        return self._finish(arrays, progress)

    def _run_epochs(self, arrays: TrainArrays, progress: Progress) -> TrainArrays:
        chunk = self._compile(arrays.states, progress)
        plan, config = self.plan, self.config
        self.reporter.started(
            epochs=config.epochs,
            done=progress.epoch + progress.chunk / plan.chunks,
        )
        saved_at = time.monotonic()
        try:
            with deferred_interrupt() as interrupt:
                while not self._is_over(progress):
                    arrays = self._run_chunk(chunk, arrays, progress)
                    if progress.chunk == plan.chunks:
                        arrays = self._end_epoch(arrays, progress)
                    due = time.monotonic() - saved_at >= config.checkpoint_seconds
                    if due or interrupt.is_set() or self._is_over(progress):
                        self._save(arrays, progress)
                        saved_at = time.monotonic()
                    if interrupt.is_set():
                        raise Interrupted(self._how_to_go_on(progress))
        finally:
            self.reporter.stopped()
        return arrays

    def _compile(self, states: TrainState, progress: Progress):
        start = time.perf_counter()
        function = jax.jit(make_chunk(self.config, self.optimizer, self.plan), donate_argnums=0)
        zero = jnp.zeros((), jnp.int32)
        order = self._order_of(progress.epoch)
        compiled = function.lower(states, self._step_keys, order, zero, self.run).compile()
        progress.compile_seconds += time.perf_counter() - start
        return compiled

    def _is_over(self, progress: Progress) -> bool:
        config = self.config
        out_of_patience = config.patience > 0 and min(progress.misses) >= config.patience
        return progress.epoch >= config.epochs or out_of_patience

    def _order_of(self, epoch: int) -> jax.Array:
        """Each seed's shuffled interactions of an epoch: one sort an epoch, not one a chunk."""
        if self._order_epoch != epoch:
            self._order = self._orders(self._order_keys, jnp.int32(epoch))
            self._order_epoch = epoch
        return self._order

    def _run_chunk(self, chunk, arrays: TrainArrays, progress: Progress) -> TrainArrays:
        start = time.perf_counter()
        epoch, plan = progress.epoch, self.plan
        first = progress.chunk * plan.steps_per_chunk
        states, losses = chunk(
            arrays.states,
            self._step_keys,
            self._order_of(epoch),
            jnp.int32(first),
            self.run,
        )
        means = np.asarray(losses.total, np.float64)
        seconds = time.perf_counter() - start
        steps = min(plan.steps_per_chunk, plan.steps_per_epoch - first)
        self._check_finite(means, epoch, first, steps)
        progress.loss_sums = [
            total + float(mean) * steps
            for total, mean in zip(progress.loss_sums, means, strict=True)
        ]
        progress.chunk += 1
        progress.train_seconds += seconds
        size, edges = self.config.batch_size, self.graph.num_edges
        rows = (min((first + steps) * size, edges) - first * size) * self.config.seeds
        self.reporter.advanced(
            epochs=epoch + progress.chunk / plan.chunks,
            loss=float(means.mean()),
            interactions_per_second=rows / seconds,
        )
        return arrays._replace(states=states)

    def _check_finite(self, losses: np.ndarray, epoch: int, first: int, steps: int) -> None:
        bad = np.flatnonzero(~np.isfinite(losses))
        if not bad.size:
            return
        kept = "no checkpoint was written yet"
        if self.directory is not None and checkpoint_folders(self.directory.checkpoints):
            kept = f"the last good checkpoint in {self.directory.checkpoints} stays"
        raise TrainingDiverged(
            f"the loss became {losses[bad[0]]} in epoch {epoch + 1}, steps {first + 1} to "
            f"{first + steps}, seed {self.config.seed + int(bad[0])}; {kept}; "
            f"try a lower learning rate than {self.config.learning_rate:g}"
        )

    def _end_epoch(self, arrays: TrainArrays, progress: Progress) -> TrainArrays:
        config, steps = self.config, self.plan.steps_per_epoch
        progress.epoch += 1
        progress.chunk = 0
        records: list[dict[str, Any]] = [
            {"epoch": progress.epoch, "seed": config.seed + index, "loss": total / steps}
            for index, total in enumerate(progress.loss_sums)
        ]
        progress.loss_sums = [0.0] * config.seeds
        if progress.epoch % config.evaluate_every == 0 or progress.epoch == config.epochs:
            start, compiling = time.perf_counter(), compile_seconds()
            part = SELECTION_PART[config.protocol]
            for index, record in enumerate(records):
                nodes = self._nodes(arrays.states.params, index)
                record |= self._metrics(nodes, ("train", part))
            arrays = self._select_best(arrays, progress, records, part)
            compiled = compile_seconds() - compiling
            progress.compile_seconds += compiled
            progress.evaluate_seconds += time.perf_counter() - start - compiled
        progress.history += records
        if self.directory is not None:
            self.directory.append_metrics(records)
        return arrays

    def _nodes(self, params: LightGCNParams, index: int) -> NodeTable:
        """Final embeddings of one seed."""
        one = jax.tree.map(lambda leaf: leaf[index], params)
        return self._embed(one, self.run.operator)

    def _metrics(self, nodes: NodeTable, parts: tuple[str, ...]) -> dict[str, dict[str, float]]:
        return rank_parts(self._scorer(nodes), self.arena, parts, self.config.ks)

    def _scorer(self, nodes: NodeTable) -> InnerProduct:
        return InnerProduct(*split_nodes(nodes, self.graph.num_users))

    def _select_best(
        self, arrays: TrainArrays, progress: Progress, records: list[dict[str, Any]], part: str
    ) -> TrainArrays:
        config = self.config
        improved = []
        for index, record in enumerate(records):
            value = record[part][config.select_by]
            # A seed whose patience is spent keeps its best, as it would have trained alone.
            spent = config.patience > 0 and progress.misses[index] >= config.patience
            improved.append(not spent and value > progress.best_values[index])
            if improved[-1]:
                progress.best_values[index] = value
                progress.best_epochs[index] = progress.epoch
                progress.misses[index] = 0
            else:
                progress.misses[index] += 1
        self.reporter.evaluated(records, improved=any(improved))
        if not any(improved):
            return arrays
        best = self._keep_best(arrays.best, arrays.states.params, jnp.asarray(improved))
        return arrays._replace(best=best)

    def _save(self, arrays: TrainArrays, progress: Progress) -> None:
        if self.directory is None:
            return
        plan = self.plan
        step = progress.epoch * plan.steps_per_epoch + progress.chunk * plan.steps_per_chunk
        save_checkpoint(self.directory.checkpoints, step, arrays, dataclasses.asdict(progress))

    def _how_to_go_on(self, progress: Progress) -> str:
        where = f"interrupted in epoch {progress.epoch + 1}"
        if self.directory is None:
            return f"{where}; nothing was written, the run had no directory"
        path = self.directory.path
        return f"{where}; go on with: lightgcn-jax train --resume {shlex.quote(str(path))}"

    def _finish(self, arrays: TrainArrays, progress: Progress) -> Trained:
        config, split = self.config, self.arena.split
        start, compiling = time.perf_counter(), compile_seconds()
        chosen = int(np.argmax(progress.best_values))
        per_seed = []
        for index, best_epoch in enumerate(progress.best_epochs):
            seed = config.seed + index
            # What choosing the epoch has ranked is not ranked again.
            [record] = (
                r for r in progress.history if (r["epoch"], r["seed"]) == (best_epoch, seed)
            )
            known = {part: record[part] for part in PARTS if part in record}
            rest = tuple(part for part in PARTS if part not in record)
            ranked = known | self._metrics(self._nodes(arrays.best, index), rest)
            per_seed.append({"seed": seed, "best_epoch": best_epoch} | ranked)
        compiled = compile_seconds() - compiling
        progress.compile_seconds += compiled
        progress.evaluate_seconds += time.perf_counter() - start - compiled
        kept = self._scorer(self._nodes(arrays.best, chosen))
        users, items = map(np.asarray, kept.embeddings())
        if not (np.isfinite(users).all() and np.isfinite(items).all()):
            raise TrainingDiverged(
                f"the embeddings of epoch {progress.best_epochs[chosen]} are not finite; try a "
                f"lower learning rate than {config.learning_rate:g}"
            )
        summary = summarize(
            config,
            per_seed,
            chosen,
            {
                "train_seconds": round(progress.train_seconds, 3),
                "compile_seconds": round(progress.compile_seconds, 3),
                "evaluate_seconds": round(progress.evaluate_seconds, 3),
                "epochs": progress.epoch,
                "stopped_by": "epochs" if progress.epoch >= config.epochs else "patience",
                "selected_by": f"{SELECTION_PART[config.protocol]} {config.select_by}",
                "users": len(split.users),
                "items": len(split.items),
                "interactions": {part: len(getattr(split, part)) for part in PARTS},
                "users_without_test_items": self.arena.users_without_test_items,
                "parameters": self.graph.num_nodes * config.dim,
                "backend": self.backend,
                "ordering": self.ordering,
                "platform": jax.default_backend(),
            },
        )
        if self.directory is not None:
            self.directory.write_embeddings(users, items)
            plot_curves(self.directory.path, progress.history, config.select_by)
            self.directory.write_summary(summary)
        return Trained(summary, progress.history, kept)


def _keep_best(best: LightGCNParams, current: LightGCNParams, improved: jax.Array):
    def keep(old, new):
        return jnp.where(improved.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return jax.tree.map(keep, best, current)
