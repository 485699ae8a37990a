"""PinSAGE's items with features and neighbours, and a run's compiled steps on them, to be timed."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.workloads.pins_100k import CONFIG, Edges
from pinsage_jax.config import PinSageConfig
from pinsage_jax.encoder.blocks import bounds, declared_capacities
from pinsage_jax.encoder.pinsage import STRUCTURE, PinSage, init_params, make_model
from pinsage_jax.features.inputs import Input
from pinsage_jax.graph.neighborhoods import build_table
from pinsage_jax.training.batch import Batch, ItemArrays, num_targets, pooling_of
from pinsage_jax.training.epochs import count_nodes, make_chunk
from pinsage_jax.training.step import TrainState
from pinsage_jax.training.trainer import make_optimizer

STEPS = 5
"""Training steps of one call."""

_VISUAL = 64
_INPUTS = (Input("visual", "dense", _VISUAL, _VISUAL), Input("log_degree", "dense", 1, 1))
_DEFAULTS = PinSageConfig()


def inputs_of(config: PinSageConfig) -> tuple[Input, ...]:
    """List what the encoder reads.

    Args:
        config: the settings.
    """
    structure = (Input.dense(STRUCTURE, config.structure),) if config.structure else ()
    return (*_INPUTS, *structure)


class Items:
    """Items with features and neighbours.

    Args:
        edges: the graph that is walked.

    Attributes:
        edges: the same.
        items: R.
        features: by input, of all items.
        table: the items' neighbours.
        first_table_seconds: to walk and compile.
        arrays: what a step reads.
    """

    def __init__(self, edges: Edges):
        self.edges = edges
        self.items = edges.graph.num_items
        rng = np.random.default_rng(0)
        self.features = {
            "visual": rng.normal(size=(self.items, _VISUAL)).astype(np.float32),
            "log_degree": rng.normal(size=(self.items, 1)).astype(np.float32),
            STRUCTURE: rng.normal(size=(self.items, _DEFAULTS.structure)).astype(np.float32),
        }
        # Nothing has walked with as many seeds before: what was compiled is told apart.
        start = time.perf_counter()
        self.table = jax.block_until_ready(
            build_table(
                jax.random.key(0), edges.graph, neighbors=_DEFAULTS.neighbors, config=CONFIG
            )
        )
        self.first_table_seconds = time.perf_counter() - start
        # What a step costs does not depend on which items the pools hold.
        pools = np.random.default_rng(1).integers(
            0, self.items, (self.items, _DEFAULTS.hard_pool), np.int32
        )
        self.arrays = ItemArrays(
            features={name: jnp.asarray(values) for name, values in self.features.items()},
            table=self.table,
            training_items=jnp.arange(self.items, dtype=jnp.int32),
            hard_pool=jnp.asarray(pools),
            degree_of_none=jnp.float32(0.0),
        )

    def features_of(self, model: PinSage) -> dict[str, jax.Array]:
        """What a model reads, on the device.

        Args:
            model: the encoder.
        """
        return {one.name: self.arrays.features[one.name] for one in model.inputs}

    def pairs(self, seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Items of random edges: their degrees are those of real pairs.

        Args:
            seed: of the draws.
            count: how many.
        """
        rng = np.random.default_rng(seed)
        drawn = rng.integers(0, len(self.edges.items), (2, count))
        queries, positives = self.edges.items[drawn]
        return queries, positives


class Steps:
    """The compiled steps of a training run; each call trains on.

    Args:
        bench: the items.
        config: the settings.

    Attributes:
        model: the encoder.
        params: its parameters before the first step.
    """

    def __init__(self, bench: Items, config: PinSageConfig):
        self._bench, self._config = bench, config
        self.model = make_model(inputs_of(config), config)
        self.params = init_params(jax.random.key(0), self.model)
        optimizer = make_optimizer(config, 100)
        most = bounds(num_targets(config, 1), config.neighbors, config.layers, bench.items)
        counted = functools.partial(count_nodes, config=config, most=most)
        batches = self._batches(0)
        self._arrays = dataclasses.replace(bench.arrays, features=bench.features_of(self.model))
        counts = [
            [
                np.asarray(
                    counted(
                        jax.random.key(step),
                        jax.tree.map(lambda part, step=step: part[step], batches),
                        jnp.int32(active),
                        self._arrays,
                    )
                )
                for step in range(STEPS)
            ]
            # As training declares them: for the first epoch and for the last.
            for active in sorted({0, config.hard_negatives})
        ]
        capacities = declared_capacities(counts, most)
        pooling = pooling_of(bench.table, config, capacities)
        self._arrays = dataclasses.replace(self._arrays, pooling=pooling)
        self._chunk = make_chunk(self.model, optimizer, config, capacities)
        copied = jax.tree.map(jnp.copy, self.params)
        self._state = TrainState(copied, optimizer.init(copied))
        self._calls = 0

    def epoch(self, active: int) -> Callable[[], None]:
        """Steps of an epoch in which so many hard negatives of a query count.

        Args:
            active: how many.
        """
        return functools.partial(self._run, jnp.int32(active))

    def _batches(self, seed: int) -> Batch:
        size = self._config.batch_size
        queries, positives = self._bench.pairs(seed, STEPS * size)
        return Batch(
            jnp.asarray(queries.reshape(STEPS, size, 1)),
            jnp.asarray(positives.reshape(STEPS, size)),
            jnp.ones((STEPS, size), jnp.float32),
        )

    def _run(self, active: jax.Array) -> None:
        self._calls += 1
        keys = jax.random.split(jax.random.key(self._calls), STEPS)
        self._state, records = self._chunk(
            self._state, self._batches(self._calls), keys, active, self._arrays
        )
        jax.block_until_ready((self._state, records))
