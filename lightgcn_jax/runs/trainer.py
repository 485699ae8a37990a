"""The loop: compiled steps, evaluation and selection at epoch ends, checkpoints between."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from lightgcn_jax.allocator import give_back_unused
from lightgcn_jax.data import Split
from lightgcn_jax.diffusion.choice import choose_backend
from lightgcn_jax.evaluation.parts import evaluation_sets, rank_parts
from lightgcn_jax.evaluation.scorer import Scorer, Tables
from lightgcn_jax.evaluation.sharded import ShardedTables
from lightgcn_jax.graph.bipartite import training_graph
from lightgcn_jax.interrupts import Interrupted, deferred
from lightgcn_jax.memory import check_memory
from lightgcn_jax.models.model import table_of
from lightgcn_jax.processes.agreement import gathered, is_first, of_the_first, several
from lightgcn_jax.processes.placing import on_every_device
from lightgcn_jax.runs.checkpoint import checkpoint_folders, save_checkpoint
from lightgcn_jax.runs.curves import plot_curves
from lightgcn_jax.runs.directory import RunDirectory
from lightgcn_jax.runs.interrupt import way_on
from lightgcn_jax.runs.mesh_checkpoint import save_together
from lightgcn_jax.runs.node_order import training_ordering
from lightgcn_jax.runs.own_objects import check_own_objects, check_sampler, check_vectors
from lightgcn_jax.runs.programs import programs_of
from lightgcn_jax.runs.progress import Progress, TrainArrays, Trained, TrainingDiverged
from lightgcn_jax.runs.replicas import Replica, replicas_of
from lightgcn_jax.runs.reporter import Reporter
from lightgcn_jax.runs.scorers import kept_params, sharded_scorer, tensors_of, whole_scorer
from lightgcn_jax.runs.selection import check_selection
from lightgcn_jax.runs.shard_files import laid_out
from lightgcn_jax.runs.summary import (
    mesh_figures,
    ranked_parts,
    split_figures,
    summarize,
    training_figures,
)
from lightgcn_jax.settings.config import TrainConfig
from lightgcn_jax.settings.protocols import SELECTION_PART
from lightgcn_jax.settings.registry import own_objects
from lightgcn_jax.sharding import Layout
from lightgcn_jax.sharding.shards import shard_kernel
from lightgcn_jax.training.epoch import plan_epoch
from lightgcn_jax.training.step import Params, TrainState
from lightgcn_jax.training.strategies import StepCost, StepInputs, TracedSettings


class Trainer:
    """One run's compiled functions and arrays on the device.

    Args:
        split: under its protocol, its rows in training order.
        config: the settings.
        optimizer: in place of Adam; None for Adam.
        directory: where to write; None keeps everything in memory.
        reporter: receives progress.
        variants: settings that differ between runs trained at once (see
            :func:`lightgcn_jax.runs.replicas.replicas_of`). With any, test is not ranked: it is for
            what was chosen among them.
        mesh: the devices that tables and batches are shared out over; None for one device.

    Raises:
        InputError: settings do not fit, or an object of one's own is not what training needs.
    """

    def __init__(
        self,
        split: Split,
        config: TrainConfig,
        optimizer: optax.GradientTransformation | None,
        directory: RunDirectory | None,
        reporter: Reporter,
        variants: Sequence[Mapping[str, Any]] = (),
        mesh: Mesh | None = None,
    ):
        check_own_objects(config, len(split.users) + len(split.items), optimizer)
        self.config, self.directory, self.reporter = config, directory, reporter
        self.variants, self.strategies = variants, config.strategies
        self.replicas: tuple[Replica, ...] = replicas_of(config, variants)
        self.sets = evaluation_sets(split, config.cold)
        check_selection(config, self.sets)
        self.graph = graph = training_graph(split)
        least = StepCost.of(graph, self.strategies).least_bytes * len(self.replicas)
        check_memory(least, "dim, batch_size, negatives or number of seeds")
        self.layout = None if mesh is None else Layout(graph.num_users, graph.num_items, mesh)
        alone = partial(choose_backend, num_entries=2 * graph.num_edges)
        self.backend = alone(config.backend).name if mesh is None else shard_kernel(config.backend)
        self.plan = plan_epoch(graph, self.strategies, len(self.replicas))
        strategies = tuple(replica.config.strategies for replica in self.replicas)
        self._traced = self._placed(TracedSettings.stacked(strategies))
        self._programs = programs_of(
            strategies,
            self.plan,
            graph.num_nodes,
            graph.num_edges,
            optimizer,
            shared=optimizer is None and not own_objects(config),
        )
        # Of several processes the first one writes.
        self._own = directory if is_first() else None
        seeds = jnp.array([replica.config.seed for replica in self.replicas])
        # One stream each for initial embeddings, steps and epoch shuffles.
        self._init_keys, self._step_keys, self._shuffle_keys = (
            jax.vmap(lambda seed, use=use: jax.random.fold_in(jax.random.key(seed), use))(seeds)
            for use in range(3)
        )
        self._step_keys = self._placed(self._step_keys)
        # Each replica's shuffled interactions: one sort an epoch, not one a call.
        self._shuffle_of = lru_cache(1)(
            lambda epoch: self._placed(self._programs.shuffle(self._shuffle_keys, jnp.int32(epoch)))
        )

    def _placed(self, tree: Any) -> Any:
        """What the compiled steps read, on all devices of the mesh, if there is one."""
        return tree if self.layout is None else on_every_device(tree, self.layout.mesh)

    @cached_property
    def inputs(self) -> StepInputs:
        """What the steps read."""
        inputs = StepInputs.of(
            self.graph,
            self.strategies,
            backend=self.backend,
            replicas=len(self.replicas),
            layout=self.layout,
        )
        rows = self.graph.num_nodes if self.layout is None else self.layout.num_rows
        check_vectors(self.config, rows, inputs.operator)
        check_sampler(self.config, inputs.sampler)
        return self._placed(inputs)

    def initial_states(self) -> TrainState:
        """States of all replicas before the first step."""
        return self._programs.start(self._init_keys)

    def array_template(self) -> TrainArrays:
        """Shapes and types of a checkpoint's arrays."""
        states = jax.eval_shape(self.initial_states)
        return TrainArrays(states, states.params)

    def train(self, arrays: TrainArrays, progress: Progress) -> Trained:
        """Train from where ``progress`` stands to the end, then rank test and write the figures.

        Args:
            arrays: parameters and optimizer states.
            progress: where training stands; it is changed.

        Raises:
            InputError: a model whose vectors have another shape than it says.
            TrainingDiverged: the loss became NaN or infinite.
            Interrupted: Ctrl-C.
        """
        if self.layout is not None and not laid_out(arrays, self.layout):
            arrays = self.layout.put(arrays)
        if not self._is_over(progress):
            arrays = self._run_epochs(arrays, progress)
        return self._finish(arrays, progress)

    def _run_epochs(self, arrays: TrainArrays, progress: Progress) -> TrainArrays:
        steps = self._compile(arrays.states, progress)
        plan, config = self.plan, self.config
        self.reporter.started(
            epochs=config.optimization.epochs, done=progress.epoch + progress.call / plan.calls
        )
        saved_at = time.monotonic()
        try:
            with deferred() as ending:
                while not self._is_over(progress):
                    arrays = self._run_steps(steps, arrays, progress)
                    if progress.call == plan.calls:
                        arrays = self._end_epoch(arrays, progress)
                    due = time.monotonic() - saved_at >= config.checkpoint_seconds
                    due, number = self._agreed(due, ending.signal_number)
                    if due or number or self._is_over(progress):
                        self._save(arrays, progress)
                        saved_at = time.monotonic()
                    if number:
                        when = f"interrupted in epoch {progress.epoch + 1}"
                        path = None if self.directory is None else self.directory.path
                        # Whoever takes machines away from many processes starts them again.
                        status = 0 if several() and number == signal.SIGTERM else None
                        raise Interrupted(way_on(when, "go on", path), number, status=status)
        finally:
            self.reporter.stopped()
        return arrays

    @staticmethod
    def _agreed(due: bool, signal_number: int) -> tuple[bool, int]:
        """Whether to save, which the first process decides, and the signal that any of them got."""
        everybodys = gathered([due, signal_number])
        return everybodys[0][0], max(number for _, number in everybodys)

    def _compile(self, states: TrainState, progress: Progress) -> Callable:
        start = time.perf_counter()
        self.reporter.noted("compiling …")
        compiled = self._programs.steps.lower(states, *self._arguments(progress)).compile()
        progress.compile_seconds += time.perf_counter() - start
        give_back_unused()
        return compiled

    def _arguments(self, progress: Progress) -> tuple:
        """What the compiled steps take beside the states."""
        first = self._placed(jnp.int32(progress.call * self.plan.steps_per_call))
        return self._step_keys, self._shuffle_of(progress.epoch), self._traced, first, self.inputs

    def _is_over(self, progress: Progress) -> bool:
        patience = self.config.selection.patience
        out_of_patience = patience > 0 and min(progress.misses) >= patience
        return progress.epoch >= self.config.optimization.epochs or out_of_patience

    def _run_steps(self, steps: Callable, arrays: TrainArrays, progress: Progress) -> TrainArrays:
        start = time.perf_counter()
        epoch, plan = progress.epoch, self.plan
        first = progress.call * plan.steps_per_call
        states, losses = steps(arrays.states, *self._arguments(progress))
        each = np.asarray(losses.total, np.float64)
        seconds = time.perf_counter() - start
        count = min(plan.steps_per_call, plan.steps_per_epoch - first)
        self._check_finite(each, epoch, first)
        progress.loss_sums = [
            total + float(loss) for total, loss in zip(progress.loss_sums, each.sum(1), strict=True)
        ]
        progress.call += 1
        progress.train_seconds += seconds
        size, edges = self.config.optimization.batch_size, self.graph.num_edges
        rows = (min((first + count) * size, edges) - first * size) * len(self.replicas)
        self.reporter.advanced(
            epochs=epoch + progress.call / plan.calls,
            loss=float(each[:, :count].mean()),
            interactions_per_second=rows / seconds,
        )
        return arrays._replace(states=states)

    def _check_finite(self, losses: np.ndarray, epoch: int, first: int) -> None:
        """Stop at a loss that is not finite; the steps after it are lost, what was saved stays."""
        steps, replicas = np.nonzero(~np.isfinite(losses.T))
        if not len(steps):
            return
        kept = "no checkpoint was written yet"
        if self.directory is not None and checkpoint_folders(self.directory.checkpoints):
            kept = f"the last good checkpoint in {self.directory.checkpoints} stays"
        replica = self.replicas[replicas[0]]
        which = ", ".join(f"{name} {value}" for name, value in replica.label.items())
        raise TrainingDiverged(
            f"the loss became {losses[replicas[0], steps[0]]} at step {first + int(steps[0]) + 1} "
            f"of {self.plan.steps_per_epoch} of epoch {epoch + 1} ({which}); {kept}; "
            f"try a lower learning rate than {replica.config.optimization.learning_rate:g}"
        )

    def _end_epoch(self, arrays: TrainArrays, progress: Progress) -> TrainArrays:
        config, steps = self.config, self.plan.steps_per_epoch
        progress.epoch += 1
        progress.call = 0
        records: list[dict[str, Any]] = [
            {"epoch": progress.epoch, **replica.label, "loss": total / steps}
            for replica, total in zip(self.replicas, progress.loss_sums, strict=True)
        ]
        progress.loss_sums = [0.0] * len(self.replicas)
        part = SELECTION_PART[config.protocol]
        every, last = config.selection.evaluate_every, config.optimization.epochs
        if part is not None and (progress.epoch % every == 0 or progress.epoch == last):
            start = time.perf_counter()
            train = ("train",) if config.rank_train else ()
            for index, record in enumerate(records):
                scorer = self.scorer(arrays.states.params, index)
                record |= rank_parts(scorer, self.sets, (*train, part), config.ks)
            arrays = self._select_best(arrays, progress, records, part)
            progress.evaluate_seconds += time.perf_counter() - start
        progress.history += records
        if self._own is not None:
            self._own.append_metrics(records)
        self.reporter.epoch_ended(records)
        return arrays

    def scorer(self, params: Params, index: int) -> Scorer | ShardedTables:
        """What ranks by the parameters of one replica.

        Args:
            params: the parameters of all replicas.
            index: the replica's.
        """
        scorer = self._scored(params, index)
        if self.layout is None:
            return scorer
        if self.sets.ranks_by_popularity:
            return whole_scorer(scorer, self.layout)
        return sharded_scorer(scorer, self.layout)

    def _select_best(
        self, arrays: TrainArrays, progress: Progress, records: list[dict[str, Any]], part: str
    ) -> TrainArrays:
        patience, improved = self.config.selection.patience, []
        # Processors of two kinds may sum the same metrics to another last bit.
        records[:] = of_the_first(records)
        for index, record in enumerate(records):
            value = record[part][self.config.metric]
            # A replica whose patience is spent keeps its best, as it would have trained alone.
            spent = patience > 0 and progress.misses[index] >= patience
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
        chosen: Any = np.asarray(improved)  # of NumPy, it belongs to the devices of all processes
        best = self._programs.keep_best(arrays.best, arrays.states.params, chosen)
        return arrays._replace(best=best)

    def _save(self, arrays: TrainArrays, progress: Progress) -> None:
        if self.directory is None:
            return
        plan = self.plan
        step = progress.epoch * plan.steps_per_epoch + progress.call * plan.steps_per_call
        folder, stored = self.directory.checkpoints, dataclasses.asdict(progress)
        if self.layout is None:
            save_checkpoint(folder, step, arrays, stored)
        else:
            save_together(folder, step, arrays, stored, self.layout)

    def _finish(self, arrays: TrainArrays, progress: Progress) -> Trained:
        start, selected = time.perf_counter(), SELECTION_PART[self.config.protocol]
        if selected is None:
            arrays = arrays._replace(best=arrays.states.params)
            progress.best_epochs = [progress.epoch] * len(self.replicas)
        replicas = range(len(self.replicas))
        ranked = [self._final_record(arrays, progress, index) for index in replicas]
        progress.evaluate_seconds += time.perf_counter() - start
        # Where nothing was selected the first replica is kept: test is no ground to choose by.
        chosen = 0 if selected is None else int(np.argmax(progress.best_values))
        kept = self._kept(arrays.best, chosen)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(kept)):
            raise TrainingDiverged(
                f"the embeddings of epoch {progress.best_epochs[chosen]} are not finite; try a "
                f"lower learning rate than {self.config.optimization.learning_rate:g}"
            )
        summary = summarize(self.config, ranked, chosen, self._details(progress))
        best = arrays.best if self.layout is None else self.layout.take(arrays.best)
        best = jax.tree.map(lambda leaf: np.asarray(leaf[chosen]), best)
        if (own := self._own) is not None:
            assert isinstance(kept, Tables)
            own.write_embeddings(*map(np.asarray, kept.embeddings()))
            own.write_model(tensors_of(best.head))
            own.write_params(kept_params(self.config.model, best.model))
            plot_curves(own.path, progress.history, self.config.metric)
            own.write_summary(summary)
        return Trained(summary, progress.history, kept, best.model)

    def _kept(self, params: Params, index: int) -> Scorer:
        """What ranks in the end, without the mesh."""
        scorer = self._scored(params, index)
        return scorer if self.layout is None else whole_scorer(scorer, self.layout)

    def _scored(self, params: Params, index: int) -> Any:
        """What one replica's parameters rank by, laid out as they are."""
        return self._programs.score(jax.tree.map(lambda leaf: leaf[index], params), self.inputs)

    def _final_record(self, arrays: TrainArrays, progress: Progress, index: int) -> dict[str, Any]:
        """The parts' metrics at a replica's best epoch."""
        wanted = [one for one in ranked_parts(self.config) if one != "test" or not self.variants]
        label, best_epoch = self.replicas[index].label, progress.best_epochs[index]
        # What choosing the epoch has ranked is not ranked again.
        best = {"epoch": best_epoch, **label}
        [record] = (one for one in progress.history if best.items() <= one.items())
        known = {part: record[part] for part in wanted if part in record}
        rest = tuple(part for part in wanted if part not in record)
        scorer = self.scorer(arrays.best, index)
        ranked = known | rank_parts(scorer, self.sets, rest, self.config.ks)
        return label | {"best_epoch": best_epoch} | ranked

    def _details(self, progress: Progress) -> dict[str, Any]:
        """What the summary says beside the metrics."""
        # Of the nodes that there are, not of rows that fill up a shard.
        shapes = self.array_template().best
        table, replicas = table_of(shapes.model), len(self.replicas)
        return {
            **training_figures(self.config, progress),
            **split_figures(self.sets),
            "parameters": sum(one.size for one in jax.tree.leaves(shapes)) // replicas,
            "embedding_parameters": 0 if table is None else table.size // replicas,
            "backend": self.backend,
            "ordering": training_ordering(self.config, self.graph.num_edges),
            **mesh_figures(self.layout, self.inputs.operator),
        }
