"""Training epoch after epoch, with evaluations on validation.

All draws are decided by the seed and the epoch, so a run that was killed and resumed ends like one
that was not.

The learning rate rises linearly over the first epoch and then decays exponentially (Ying et al.
2018, section 3.3, which gives no constants).

The epoch kept is the best on validation. Where the parameters before the first step are judged too,
a trained epoch replaces them only if its gain exceeds its standard error: of ten epochs that add
nothing, one is above the start by chance.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from lightgcn_jax.errors import InputError
from lightgcn_jax.processes.agreement import arrays_of_the_first, of_the_first
from pinsage_jax.config import PinSageConfig, metric_names, stream
from pinsage_jax.encoder.all_items import embed_all
from pinsage_jax.encoder.initial import standardised
from pinsage_jax.encoder.pinsage import init_params
from pinsage_jax.evaluation.metrics import ItemMetrics, check_ks, fitting_ks, ranked_items
from pinsage_jax.evaluation.parts import query_scorer
from pinsage_jax.evaluation.ranks import reciprocal_ranks
from pinsage_jax.negatives.curriculum import active_hard
from pinsage_jax.tasks.task import Task
from pinsage_jax.training.division import describe, division_of, table_bytes
from pinsage_jax.training.epochs import DeviceEpochs, HostEpochs
from pinsage_jax.training.folds import Fold, folds_of, neighbors_of
from pinsage_jax.training.preparation import Prepared
from pinsage_jax.training.reporter import Reporter, SilentReporter
from pinsage_jax.training.step import TrainState

# How many items the initial layers are shifted and scaled by.
_INITIAL_ITEMS = 1024


class TrainingDiverged(InputError):
    """The loss became NaN or infinite."""


class Progress(NamedTuple):
    """How far a run is, as a checkpoint holds it.

    Attributes:
        state: parameters and moments after ``epoch``.
        best: parameters of the best epoch so far.
        epoch: how many epochs are done.
        best_epoch: the best of them; 0 for the start.
        best_value: its metric on validation; −∞ before the first evaluation.
        losses: ``float32[n]``, of the n steps of the next epoch that ``state`` has behind it: an
            epoch may be broken off within.
    """

    state: TrainState
    best: Any
    epoch: int
    best_epoch: int
    best_value: float
    losses: np.ndarray = np.zeros(0, np.float32)

    @property
    def has_begun(self) -> bool:
        """Whether a step was taken."""
        return bool(self.epoch or len(self.losses))


class Trainer:
    """Trains one run, an epoch at a time."""

    def __init__(
        self,
        task: Task,
        config: PinSageConfig,
        prepared: Prepared,
        reporter: Reporter | None = None,
        mesh: Mesh | str | None = None,
    ):
        self.task, self.config, self.prepared = task, config, prepared
        self.reporter = reporter or SilentReporter()
        pairs = task.pairs
        if not pairs.num_pairs:
            raise InputError("pairs: expected at least one query–positive pair to train on")
        # Items that are ranked: one that training never sees is not asked for.
        self.pool = np.flatnonzero(task.train_items).astype(np.int32)
        filled, folds = -(-pairs.num_pairs // config.batch_size), len(prepared.folds)
        # As many steps for each fold: one program serves them all.
        self.steps = config.steps_per_epoch or -(-filled // folds) * folds
        self.optimizer = make_optimizer(config, self.steps)
        pool = None if prepared.hard is None else prepared.hard.ids
        tables = table_bytes((prepared.features, prepared.table, pool))
        self.division = division_of(mesh, config, tables)
        if self.division.mesh is not None:
            self.reporter.noted(describe(self.division, tables))
        made = task, config, prepared, self.optimizer
        on_device = config.tables == "device"
        self.epochs = DeviceEpochs(*made, self.division) if on_device else HostEpochs(*made)
        self.tiers = np.zeros(len(self.epochs.capacities), int)
        self._drawn_at = 0
        self._start: ItemMetrics | None = None  # validation before the first step
        self._check_selection()

    def _check_selection(self) -> None:
        """Refuse cut-offs that the catalogue has no items for."""
        ks, most = self.config.ks, len(self.pool)
        check_ks(ks, most)
        if self.config.metric not in metric_names(fitting_ks(ks, most)):
            raise InputError(
                f"select_by: expected a cut-off of at most {most}, the training items, "
                f"got {self.config.metric}"
            )

    def go_on(self, params: Any) -> Progress:
        """The progress before the first step of a run that goes on with another's encoder.

        Args:
            params: the encoder's parameters. New items' own vectors are drawn; known items are the
                first ones.
        """
        params_key, _ = jax.random.split(stream(self.config, "init"))
        drawn = init_params(params_key, self.prepared.model)

        def grown(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.asarray(old) if new.shape == old.shape else new.at[: len(old)].set(old)

        return self._before(jax.tree.map(grown, drawn, params))

    def start(self) -> Progress:
        """Draw the initial parameters: the progress before the first step."""
        prepared = self.prepared
        params_key, items_key = jax.random.split(stream(self.config, "init"))
        params = init_params(params_key, prepared.model)
        if self.config.data_init:
            items = jax.random.permutation(items_key, self.pool)[:_INITIAL_ITEMS]
            params = standardised(
                prepared.model, params, prepared.features, prepared.table, np.asarray(items)
            )
        return self._before(params)

    def _before(self, params: Any) -> Progress:
        params = arrays_of_the_first(params)
        state = TrainState(params, self.optimizer.init(params))
        # A chunk gives up the state that it was handed, so the best parameters are a copy.
        return Progress(state, self.division.copied(params), 0, 0, -np.inf)

    def use_folds_of(self, epoch: int) -> None:
        """Take the neighbours that an epoch trains on, which are drawn anew every few epochs.

        Those that validation and test are asked of stay as they were drawn at first.

        Args:
            epoch: the epoch, from 1; 0 for the start.
        """
        drawn_at = drawn_for(epoch, self.config.refresh_every)
        if drawn_at == self._drawn_at:
            return
        prepared, config = self.prepared, self.config
        table = neighbors_of(prepared.graph, config, epoch=drawn_at)
        whole = Fold(self.task.pairs, table, prepared.features)
        schema, structure = prepared.schema, prepared.structure
        self.epochs.folds = folds_of(self.task, config, whole, schema, structure, epoch=drawn_at)
        self._drawn_at = drawn_at

    def train_epoch(
        self, progress: Progress, ending: Callable[[], bool] | None = None
    ) -> tuple[Progress, float | None]:
        """Train one epoch, or what is left of it.

        Args:
            progress: how far the run is.
            ending: asked after some steps whether to break off.

        Returns:
            How far it is now, and the mean of the losses; None where it was broken off.

        Raises:
            TrainingDiverged: a loss is NaN or infinite; the message names the step.
        """
        config, epoch = self.config, progress.epoch + 1
        self.use_folds_of(epoch)
        active = active_hard(config.curriculum, epoch, config.hard_cap, config.epochs)
        state = self.division.placed(progress.state)
        losses, done = [progress.losses], len(progress.losses)
        before = time.perf_counter()
        moves = self.epochs.run(state, epoch, steps=self.steps, active=active, done=done)
        for state, records in moves:
            values = np.asarray(records.loss)
            now = time.perf_counter()
            _check_losses(values, epoch, done)
            self.tiers += np.bincount(np.asarray(records.tier), minlength=len(self.tiers))
            losses.append(values)
            done += len(values)
            self.reporter.advanced(
                epoch=epoch,
                share=done / self.steps,
                loss=float(values.mean()),
                seconds_a_step=(now - before) / len(values),
            )
            before = now
            if ending is not None and ending() and done < self.steps:
                return progress._replace(state=state, losses=np.concatenate(losses)), None
        mean = float(np.concatenate(losses).mean())
        return progress._replace(state=state, epoch=epoch, losses=progress.losses[:0]), mean

    def validate(self, params: Any) -> ItemMetrics:
        """Rank the training items for the pairs of validation.

        Args:
            params: the encoder's parameters.
        """
        prepared, valid = self.prepared, self.task.valid
        if self.division.mesh is not None:
            params = self.division.copied(params)
        given = prepared.model, params, prepared.features, prepared.table
        vectors = embed_all(*given, mesh=self.division.mesh, vectors_alone=True).vectors
        scorer = query_scorer(prepared.model, params, vectors, valid.queries)
        return ranked_items(scorer, valid, self.pool, self.config.ks)

    def is_better(self, found: ItemMetrics, progress: Progress) -> bool:
        """Tell whether an epoch replaces the best so far.

        Args:
            found: its ranks on validation.
            progress: how far the run is.
        """
        value = found.metrics[self.config.metric]
        if progress.best_epoch or not np.isfinite(progress.best_value):
            return value > progress.best_value
        if self._start is None:  # the run was resumed: the best is still the start
            self._start = self.validate(progress.best)
        return exceeds_chance(self._values(found) - self._values(self._start))

    def _values(self, found: ItemMetrics) -> np.ndarray:
        """The values whose mean is the metric that chooses: of pairs for MRR, else of queries."""
        if self.config.metric == "mrr":
            return reciprocal_ranks(found.ranks)
        return found.per_query[self.config.metric]

    def advance(
        self, progress: Progress, ending: Callable[[], bool] | None = None
    ) -> tuple[Progress, dict[str, Any] | None]:
        """Train one epoch, and evaluate it on validation where that is due.

        Args:
            progress: how far the run is.
            ending: as :meth:`train_epoch` takes it.

        Returns:
            How far it is now, and the record of the epoch; None where it was broken off.
        """
        started = time.perf_counter()
        progress, loss = self.train_epoch(progress, ending)
        if loss is None:
            return progress, None
        record: dict[str, Any] = {"epoch": progress.epoch, "loss": loss}
        due = progress.epoch % self.config.evaluate_every == 0
        if due or progress.epoch == self.config.epochs:
            found = self.validate(progress.state.params)
            record["valid"] = found.metrics
            # Processors of two kinds may sum the same metrics to another last bit.
            if of_the_first(self.is_better(found, progress)):
                progress = progress._replace(
                    best=self.division.copied(progress.state.params),
                    best_epoch=progress.epoch,
                    best_value=found.metrics[self.config.metric],
                )
        record["seconds"] = time.perf_counter() - started
        self.reporter.evaluated(record)
        return progress, record

    def assess_start(self, progress: Progress) -> tuple[Progress, dict[str, Any]]:
        """Evaluate the parameters before the first step, which may turn out to be the best.

        With a structure the first ranking is a good one: learning has to show that it adds to it.

        Args:
            progress: how far the run is: at its start.

        Returns:
            The progress, and the record of epoch 0.
        """
        found = self.validate(progress.state.params)
        self._start = found
        record: dict[str, Any] = {"epoch": 0, "valid": found.metrics}
        self.reporter.evaluated(record)
        return progress._replace(best_value=found.metrics[self.config.metric]), record

    def finished(self, progress: Progress) -> bool:
        """Tell whether no epoch is left, or patience is at its end.

        Args:
            progress: how far the run is.
        """
        return is_finished(self.config, progress.epoch, progress.best_epoch)

    def tier_note(self) -> str:
        """Say how often each of the declared capacities was taken."""
        parts = [
            f"{count:,} steps within {' + '.join(f'{size:,}' for size in sizes)} nodes"
            for sizes, count in zip(self.epochs.capacities, self.tiers, strict=True)
        ]
        return "; ".join(parts)


def drawn_for(epoch: int, every: int) -> int:
    """The epoch before which the neighbours of an epoch were drawn: 0 for those of the start.

    Args:
        epoch: from 1.
        every: after how many epochs they are drawn anew; 0 for never.
    """
    return every * ((epoch - 1) // every) + 1 if every and epoch > every else 0


def exceeds_chance(gains: np.ndarray) -> bool:
    """Tell whether the mean of paired differences exceeds its standard error.

    This is the rule of Breiman et al. 1984 (section 3.4.3) turned to the choice of an epoch: what
    is simpler stays unless the other is better by more than one standard error.

    Args:
        gains: ``float[n]``; fewer than two tell nothing.
    """
    if len(gains) < 2:
        return False
    return bool(gains.mean() > gains.std(ddof=1) / np.sqrt(len(gains)))


def is_finished(config: PinSageConfig, epoch: int, best_epoch: int) -> bool:
    """Tell whether no epoch is left, or patience is at its end.

    Args:
        config: the settings.
        epoch: epochs done.
        best_epoch: the best of them; 0 for the start, or before the first evaluation.
    """
    if epoch >= config.epochs:
        return True
    waited = (epoch - best_epoch) // config.evaluate_every
    return bool(config.patience) and waited >= config.patience


def make_optimizer(config: PinSageConfig, steps_per_epoch: int) -> optax.GradientTransformation:
    """Make Adam with a linear warm-up and an exponential decay.

    Args:
        config: the settings.
        steps_per_epoch: how many steps an epoch has.
    """
    warmup = round(config.warmup_epochs * steps_per_epoch)
    decay = optax.exponential_decay(config.learning_rate, steps_per_epoch, config.decay)
    if not warmup:
        return optax.adam(decay)
    rise = optax.linear_schedule(config.learning_rate / warmup, config.learning_rate, warmup)
    return optax.adam(optax.join_schedules([rise, decay], [warmup]))


def _check_losses(values: np.ndarray, epoch: int, start: int) -> None:
    odd = np.flatnonzero(~np.isfinite(values))
    if odd.size:
        raise TrainingDiverged(
            f"the loss is {values[odd[0]]} at step {start + int(odd[0]) + 1} of epoch {epoch}; "
            "try a smaller learning_rate or a larger temperature"
        )
