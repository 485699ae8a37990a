"""The runs of one data set and seed: they share a task and its preparation."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from lightgcn_jax.errors import InputError
from pinsage_jax.config import PinSageConfig, settings_from, stream
from pinsage_jax.data.items import ItemData
from pinsage_jax.encoder.pinsage import make_model
from pinsage_jax.evaluation.baselines import (
    BASELINES,
    Baseline,
    evaluate_scores,
    features,
    random_scores,
)
from pinsage_jax.evaluation.metrics import directions, new_partner_metrics, triplet_accuracy
from pinsage_jax.evaluation.oracles import ORACLES, oracle
from pinsage_jax.evaluation.parts import query_scorer
from pinsage_jax.experiments.experiment import DataSet, Variant
from pinsage_jax.runs.evaluate import evaluate_fresh
from pinsage_jax.runs.finished import FinishedRun
from pinsage_jax.runs.fit import fit
from pinsage_jax.tasks.holdout import cooccurrence_task
from pinsage_jax.tasks.new_partners import only_new_partners
from pinsage_jax.tasks.task import HeldOut, Task
from pinsage_jax.training.preparation import Prepared, hard_pool_of, prepare

TASK: Mapping[str, Any] = {"valid": 0.1, "test": 0.1, "held_out_items": 0.1}
"""The shares that are held out of every data set."""

# The settings that decide what is prepared; variants that agree in them share it.
_PREPARED_BY = (
    *("columns", "log_degree", "id_embedding", "seed"),
    *("neighbors", "walks", "walk_length", "restart", "fan"),
    *("structure", "folds", "uses_graph"),
    *("hard_band", "hard_pool", "hard_ranking", "hard_visits"),
)
# How many pairs are compared with their hard negatives at a time.
_PAIRS = 256

Say = Callable[[str], None]
# Figures by name, and further values for a reader of their file.
Found = tuple[dict[str, float], dict[str, Any]]


class Bench:
    """Carries out the runs of one data set and seed, on one task.

    A run has these figures: the metrics of test; hit-rates and MRR of its pairs that share no
    training context, ``new_partner/…``; those of added items, as :func:`fresh_figures` names them;
    ``triplets`` and ``hard_triplets`` where the data set asks for them; ``seconds``,
    which contain the whole preparation that the run reads, even where other runs share it.

    Attributes:
        task: pairs of one context, with some items held out.
        prepared: what the data set's own settings prepare; only features where nothing is trained.
    """

    def __init__(self, data: DataSet, items: ItemData, seed: int, *, trained: bool = True):
        self._data, self._seed = data, seed
        self.task = cooccurrence_task(items, seed=seed, **TASK)
        self._config = settings_from(data.config, seed=seed)
        if not trained:
            self._config = settings_from(self._config, pooling="none", curriculum="none")
        self.prepared = prepare(self.task, self._config)
        self._pool = np.flatnonzero(self.task.train_items)
        self._new_partners = only_new_partners(self.task, self.task.test)

    def introduce(self, say: Say) -> None:
        """Describe the data set, the task and what was prepared.

        Args:
            say: called with each line.
        """
        items = self.task.data
        say(f"{self._data.name} seed {self._seed}: {items.describe()}")
        partners = f"test: {self._new_partners.describe()}"
        for note in (*items.notes, *self.task.notes, partners, *self.prepared.notes):
            say(f"  {note}")

    def run(self, variant: Variant) -> Found:
        """Train or score a variant.

        Args:
            variant: the variant.

        Returns:
            Its figures, and further values for a reader of its file.
        """
        config = variant.settings(self._data.config, self._seed)
        if config is None:
            started = time.perf_counter()
            figures, details = self._ranked(self._baseline(variant))
        else:
            prepared = shared(self.task, self.prepared, self._config, config)
            started = time.perf_counter() - sum(prepared.seconds.values())
            figures, details = self._trained(config, prepared)
        return figures | {"seconds": time.perf_counter() - started}, details

    def _baseline(self, variant: Variant) -> Baseline:
        """What scores the items of a variant that needs no training."""
        if variant.kind == "random":
            return functools.partial(random_scores, stream(self._config, "evaluation"))
        if variant.kind == "cosine":
            return functools.partial(features, columns=(variant.name,))
        if variant.kind == "oracle":
            return self._oracle(variant.name)
        return BASELINES[variant.name]

    def _oracle(self, name: str) -> Baseline:
        pins = self._data.generated()
        if pins is None:
            raise InputError(f"{name}: {self._data.name} is no generated world")
        return lambda _, held_out: oracle(pins, held_out, ORACLES[name])

    def _ranked(self, baseline: Baseline) -> Found:
        """The figures of a variant that needs no training."""
        parts = evaluate_scores(self.task, baseline)
        scorer = baseline(self.task, self.task.test)
        figures = parts["test"] | new_partner_metrics(scorer, self._new_partners, self._pool)
        if "fresh" in parts:
            figures |= fresh_figures(parts["fresh"], parts["known"])
        return figures, {"ranked_items": len(self._pool)}

    def _trained(self, config: PinSageConfig, prepared: Prepared) -> Found:
        result = fit(self.task, config, prepared=prepared)
        figures, vectors = dict(result.summary["test"]), directions(result.items.vectors)
        scorer = query_scorer(
            prepared.model, result.params, result.items.vectors, self.task.test.queries
        )
        figures |= new_partner_metrics(scorer, self._new_partners, self._pool)
        if self.task.fresh is not None:
            found = evaluate_fresh(FinishedRun.of(result))
            figures |= fresh_figures(found["fresh"], found["test"])
        if self._data.triplets:
            figures |= self._triplets(vectors)
        return figures, {name: one for name, one in result.summary.items() if name != "test"}

    def _triplets(self, vectors: np.ndarray) -> dict[str, float]:
        """Triplets with random items, and with hard negatives where there is a pool."""
        key = stream(self._config, "evaluation")
        random = triplet_accuracy(key, vectors, self.task.test, candidates=self._pool)
        hard = hard_triplets(vectors, self.task.test, self._unseen_hard)
        return {"triplets": random.accuracy} | ({} if hard is None else {"hard_triplets": hard})

    @functools.cached_property
    def _unseen_hard(self) -> np.ndarray:
        """Hard negatives of the test queries that no training draws, ``int32[I, P]``, −1 pads."""
        task, config, trained = self.task, self._config, self.prepared.hard
        key = jax.random.fold_in(stream(config, "hard"), 1)
        queries = np.unique(task.test.queries)
        ids = np.asarray(hard_pool_of(key, self.prepared.graph, task, config, queries).ids)
        seen = np.zeros(ids.shape, bool)
        for column in np.asarray(trained.ids).T if trained is not None else ():
            seen |= ids == column[:, None]
        return np.where(seen, np.int32(-1), ids)


def shared(task: Task, prepared: Prepared, old: PinSageConfig, config: PinSageConfig) -> Prepared:
    """Take over what other settings prepared, or prepare anew where the settings differ in it.

    Args:
        task: what is trained on.
        prepared: what was prepared.
        old: the settings that prepared it.
        config: the settings that need it now.
    """
    agree = all(getattr(old, name) == getattr(config, name) for name in _PREPARED_BY)
    if not agree or (config.hard_negatives and prepared.hard is None):
        return prepare(task, config)
    seconds = dict(prepared.seconds)
    if not config.hard_negatives:
        seconds.pop("hard negatives", None)
    return prepared._replace(
        hard=prepared.hard if config.hard_negatives else None,
        model=make_model(prepared.model.inputs, config),
        seconds=seconds,
    )


def fresh_figures(fresh: dict[str, float], known: dict[str, float]) -> dict[str, float]:
    """Compare hit-rates and MRR of pairs with an added item and of ordinary pairs.

    Args:
        fresh: the metrics of the pairs whose positive was added.
        known: the metrics of ordinary pairs, ranked among the same items.

    Returns:
        ``fresh/…``, ``known/…`` and their ratio ``fresh/known …`` for each metric; a ratio to 0
        is left out.
    """
    figures: dict[str, float] = {}
    for name in (name for name in fresh if name.startswith(("hit_rate", "mrr"))):
        figures |= {f"fresh/{name}": fresh[name], f"known/{name}": known[name]}
        if known[name] > 0:
            figures[f"fresh/known {name}"] = fresh[name] / known[name]
    return figures


def hard_triplets(vectors: np.ndarray, held_out: HeldOut, pool: np.ndarray) -> float | None:
    """Measure how often a positive is nearer to its query than a hard negative.

    Hard negatives are the items of the query's pool. The positive may be among them, since a pool
    leaves out only items that share a *training* context; it is passed over. Ties count half. The
    mean is over the pairs whose query has a pool; it is None where none has.

    Args:
        vectors: ``float32[I, D]``, of unit length.
        held_out: pairs of one item to one.
        pool: ``int32[I, P]``, −1 pads.
    """
    counts = np.asarray(held_out.relevant.lengths())
    queries = np.repeat(held_out.queries[:, 0], counts)
    positives = np.asarray(held_out.relevant.columns)
    shares: list[np.ndarray] = []
    for start in range(0, len(queries), _PAIRS):
        part = slice(start, start + _PAIRS)
        query, positive = vectors[queries[part]], positives[part]
        hard = pool[queries[part]]
        valid = (hard >= 0) & (hard != positive[:, None])
        near = (query * vectors[positive]).sum(axis=1)[:, None]
        far = np.einsum("bd,bpd->bp", query, vectors[np.maximum(hard, 0)])
        right = np.where(valid, (near > far) + 0.5 * (near == far), 0).sum(axis=1)
        there = valid.sum(axis=1)
        shares.append(right[there > 0] / there[there > 0])
    every = np.concatenate(shares)
    return float(every.mean()) if every.size else None
