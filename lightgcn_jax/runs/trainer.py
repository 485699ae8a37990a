"""The loop: chunks of steps, evaluation and selection at epoch ends, checkpoints between."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lightgcn_jax.data.pairs import PARTS
from lightgcn_jax.data.splits import Split
from lightgcn_jax.diffusion.choice import choose_backend
from lightgcn_jax.diffusion.operator import diffusion_operator
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.parts import EvaluationSets, evaluation_sets, rank_parts
from lightgcn_jax.evaluation.scorer import Embedded, Scorer
from lightgcn_jax.graph.bipartite import training_graph
from lightgcn_jax.runs.checkpoint import checkpoint_folders, save_checkpoint
from lightgcn_jax.runs.clock import compile_seconds
from lightgcn_jax.runs.curves import plot_curves
from lightgcn_jax.runs.directory import RunDirectory
from lightgcn_jax.runs.interrupt import Interrupted, deferred_interrupt
from lightgcn_jax.runs.node_order import training_ordering
from lightgcn_jax.runs.progress import Progress, TrainArrays, Trained, TrainingDiverged
from lightgcn_jax.runs.replicas import Lane, lanes_of
from lightgcn_jax.runs.reporter import Reporter
from lightgcn_jax.runs.scorers import head_tensors, make_scorer
from lightgcn_jax.runs.summary import summarize
from lightgcn_jax.settings.config import TrainConfig
from lightgcn_jax.settings.protocols import SELECTION_PART
from lightgcn_jax.training.epoch import make_chunk, plan_chunks
from lightgcn_jax.training.optimizer import make_optimizer
from lightgcn_jax.training.step import Params, Rates, Run, TrainState, epoch_order, initial_state


class Trainer:
    """One run's compiled functions and arrays on the device.

    Args:
        split: the protocol is applied.
        config: its model is a trained one.
        optimizer: in place of Adam; None for Adam.
        directory: where to write; None keeps everything in memory.
        reporter: receives progress.
        variants: settings that differ between runs trained at once (see
            :func:`lightgcn_jax.runs.replicas.lanes_of`). With any, test is not ranked: it is for
            what was chosen among them.
    """

    def __init__(
        self,
        split: Split,
        config: TrainConfig,
        optimizer: optax.GradientTransformation | None,
        directory: RunDirectory | None,
        reporter: Reporter,
        variants: Sequence[Mapping[str, Any]] = (),
    ):
        self.config, self.directory, self.reporter = config, directory, reporter
        self.variants = variants
        self.lanes: tuple[Lane, ...] = lanes_of(config, variants)
        self.sets: EvaluationSets = evaluation_sets(split)
        self.graph = graph = training_graph(split)
        if config.negatives * graph.users_of_item.longest >= 2**31:
            raise InputError(
                f"negatives: {config.negatives} items with up to {graph.users_of_item.longest:,} "
                f"users each are more than 32-bit counters hold; choose fewer"
            )
        self.backend = choose_backend(config.backend, num_entries=2 * graph.num_edges).name
        self.ordering = training_ordering(config, graph.num_edges)
        self.plan = plan_chunks(graph.num_edges, graph.num_nodes, config, len(self.lanes))
        self._optimizer = optimizer
        seeds = jnp.array([lane.config.seed for lane in self.lanes])
        self._rates = Rates.stacked([lane.config for lane in self.lanes])
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
        self._score = jax.jit(lambda params, run: make_scorer(params, run, config))
        self._keep_best = jax.jit(_keep_best, donate_argnums=0)
        self._order_epoch = -1

    @cached_property
    def run(self) -> Run:
        """What the steps read."""
        config, normalization = self.config, self.config.form.normalization(self.config)
        operator = None
        if normalization is not None:
            operator = diffusion_operator(
                self.graph,
                backend=self.backend,
                normalization=normalization,
                edge_dropout=config.edge_dropout > 0,
            )
        return Run.of(self.graph, operator, config, len(self.lanes))

    def _optimizer_of(self, rate: jax.Array | float) -> optax.GradientTransformation:
        return self._optimizer or make_optimizer(self.config, self.plan.steps_per_epoch, rate)

    def initial_states(self) -> TrainState:
        """States of all lanes before the first step."""

        def start(lane: Lane, key: jax.Array) -> TrainState:
            optimizer = self._optimizer_of(lane.config.learning_rate)
            return initial_state(key, self.graph.num_nodes, lane.config, optimizer)

        def start_all(keys: jax.Array) -> TrainState:
            states = map(start, self.lanes, keys)
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

        return jax.jit(start_all)(self._init_keys)

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
        chunk = make_chunk(self.config, self._optimizer_of, self.plan)
        function = jax.jit(chunk, donate_argnums=0)
        zero = jnp.zeros((), jnp.int32)
        order = self._order_of(progress.epoch)
        compiled = function.lower(
            states, self._step_keys, order, self._rates, zero, self.run
        ).compile()
        progress.compile_seconds += time.perf_counter() - start
        return compiled

    def _is_over(self, progress: Progress) -> bool:
        config = self.config
        out_of_patience = config.patience > 0 and min(progress.misses) >= config.patience
        return progress.epoch >= config.epochs or out_of_patience

    def _order_of(self, epoch: int) -> jax.Array:
        """Each lane's shuffled interactions of an epoch: one sort an epoch, not one a chunk."""
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
            self._rates,
            jnp.int32(first),
            self.run,
        )
        each = np.asarray(losses.total, np.float64)
        seconds = time.perf_counter() - start
        steps = min(plan.steps_per_chunk, plan.steps_per_epoch - first)
        self._check_finite(each, epoch, first)
        progress.loss_sums = [
            total + float(loss) for total, loss in zip(progress.loss_sums, each.sum(1), strict=True)
        ]
        progress.chunk += 1
        progress.train_seconds += seconds
        size, edges = self.config.batch_size, self.graph.num_edges
        rows = (min((first + steps) * size, edges) - first * size) * len(self.lanes)
        self.reporter.advanced(
            epochs=epoch + progress.chunk / plan.chunks,
            loss=float(each[:, :steps].mean()),
            interactions_per_second=rows / seconds,
        )
        return arrays._replace(states=states)

    def _check_finite(self, losses: np.ndarray, epoch: int, first: int) -> None:
        """Stop at a loss that is not finite; the steps after it are lost, what was saved stays."""
        steps, lanes = np.nonzero(~np.isfinite(losses.T))
        if not len(steps):
            return
        kept = "no checkpoint was written yet"
        if self.directory is not None and checkpoint_folders(self.directory.checkpoints):
            kept = f"the last good checkpoint in {self.directory.checkpoints} stays"
        lane = self.lanes[lanes[0]]
        which = ", ".join(f"{name} {value}" for name, value in lane.label.items())
        raise TrainingDiverged(
            f"the loss became {losses[lanes[0], steps[0]]} at step {first + int(steps[0]) + 1} of "
            f"{self.plan.steps_per_epoch} of epoch {epoch + 1} ({which}); {kept}; "
            f"try a lower learning rate than {lane.config.learning_rate:g}"
        )

    def _end_epoch(self, arrays: TrainArrays, progress: Progress) -> TrainArrays:
        config, steps = self.config, self.plan.steps_per_epoch
        progress.epoch += 1
        progress.chunk = 0
        records: list[dict[str, Any]] = [
            {"epoch": progress.epoch, **lane.label, "loss": total / steps}
            for lane, total in zip(self.lanes, progress.loss_sums, strict=True)
        ]
        progress.loss_sums = [0.0] * len(self.lanes)
        part = SELECTION_PART[config.protocol]
        due = progress.epoch % config.evaluate_every == 0 or progress.epoch == config.epochs
        if part is not None and due:
            start, compiling = time.perf_counter(), compile_seconds()
            for index, record in enumerate(records):
                scorer = self.scorer(arrays.states.params, index)
                record |= self._metrics(scorer, ("train", part))
            arrays = self._select_best(arrays, progress, records, part)
            compiled = compile_seconds() - compiling
            progress.compile_seconds += compiled
            progress.evaluate_seconds += time.perf_counter() - start - compiled
        progress.history += records
        if self.directory is not None:
            self.directory.append_metrics(records)
        return arrays

    def scorer(self, params: Params, index: int) -> Scorer:
        """What ranks by the parameters of one lane."""
        return self._score(jax.tree.map(lambda leaf: leaf[index], params), self.run)

    def _metrics(self, scorer: Scorer, parts: tuple[str, ...]) -> dict[str, dict[str, float]]:
        return rank_parts(scorer, self.sets, parts, self.config.ks)

    def _select_best(
        self, arrays: TrainArrays, progress: Progress, records: list[dict[str, Any]], part: str
    ) -> TrainArrays:
        config = self.config
        improved = []
        for index, record in enumerate(records):
            value = record[part][config.select_by]
            # A lane whose patience is spent keeps its best, as it would have trained alone.
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
        config, split = self.config, self.sets.split
        start, compiling = time.perf_counter(), compile_seconds()
        selected = SELECTION_PART[config.protocol]
        if selected is None:
            arrays = arrays._replace(best=arrays.states.params)
            progress.best_epochs = [progress.epoch] * len(self.lanes)
        wanted = PARTS[:-1] if self.variants else PARTS
        lanes = []
        for index, best_epoch in enumerate(progress.best_epochs):
            label = self.lanes[index].label
            # What choosing the epoch has ranked is not ranked again.
            [record] = (
                record
                for record in progress.history
                if {"epoch": best_epoch, **label}.items() <= record.items()
            )
            known = {part: record[part] for part in wanted if part in record}
            rest = tuple(part for part in wanted if part not in record)
            ranked = known | self._metrics(self.scorer(arrays.best, index), rest)
            lanes.append(label | {"best_epoch": best_epoch} | ranked)
        compiled = compile_seconds() - compiling
        progress.compile_seconds += compiled
        progress.evaluate_seconds += time.perf_counter() - start - compiled
        # Where nothing was selected the first lane is kept: test is no ground to choose by.
        chosen = 0 if selected is None else int(np.argmax(progress.best_values))
        kept = self.scorer(arrays.best, chosen)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(kept)):
            raise TrainingDiverged(
                f"the embeddings of epoch {progress.best_epochs[chosen]} are not finite; try a "
                f"lower learning rate than {config.learning_rate:g}"
            )
        parameters = sum(leaf[0].size for leaf in jax.tree.leaves(arrays.best))
        summary = summarize(
            config,
            lanes,
            chosen,
            {
                "train_seconds": round(progress.train_seconds, 3),
                "compile_seconds": round(progress.compile_seconds, 3),
                "evaluate_seconds": round(progress.evaluate_seconds, 3),
                "epochs": progress.epoch,
                "stopped_by": "epochs" if progress.epoch >= config.epochs else "patience",
                "selected_by": "nothing" if selected is None else f"{selected} {config.select_by}",
                "users": len(split.users),
                "items": len(split.items),
                "interactions": {part: len(getattr(split, part)) for part in PARTS},
                "users_without_test_items": self.sets.users_without_test_items,
                "parameters": parameters,
                "embedding_parameters": arrays.best.model.table[0].size,
                "backend": self.backend,
                "ordering": self.ordering,
                "platform": jax.default_backend(),
            },
        )
        if self.directory is not None:
            assert isinstance(kept, Embedded)
            self.directory.write_embeddings(*map(np.asarray, kept.embeddings()))
            self.directory.write_model(head_tensors(kept))
            plot_curves(self.directory.path, progress.history, config.select_by)
            self.directory.write_summary(summary)
        return Trained(summary, progress.history, kept)


def _keep_best(best: Params, current: Params, improved: jax.Array) -> Params:
    def keep(old, new):
        return jnp.where(improved.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return jax.tree.map(keep, best, current)
