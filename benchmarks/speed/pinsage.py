"""PinSAGE on 100,000 items and a million edges: walks, neighbours, training steps, all items.

Walks and neighbourhoods run beside a compiled sampler (DGL's where it is installed, else one in
numba), training steps beside the same encoder and step in PyTorch on the same neighbours, from the
same parameters. Ours draws its negatives and gathers its blocks inside the step, and so does the
peer's. Layer-wise inference runs beside embedding all items one mini-batch at a time.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.harness.report import (
    Claim,
    Report,
    alternate,
    cores,
    note,
    ratio_claim,
    ratio_of_medians,
    whole_number,
)
from benchmarks.peers.torch_pinsage import TorchPinSage, Trainer
from benchmarks.speed.pinsage_walks import BATCH, CONFIG, ITEMS, Edges, graph_100k, measure
from pinsage_jax.config import PinSageConfig
from pinsage_jax.encoder.all_items import embed_all
from pinsage_jax.encoder.blocks import (
    bounds,
    declared_capacities,
    make_blocks,
    mark_layers,
    take_features,
)
from pinsage_jax.encoder.pinsage import PinSage, init_params, make_model
from pinsage_jax.features.schema import Input
from pinsage_jax.graph.neighborhoods import NeighborTable, build_table
from pinsage_jax.negatives.hard import make_pool
from pinsage_jax.training.epochs import count_nodes, make_chunk
from pinsage_jax.training.step import Batch, TrainState, World, embed_blocks, num_targets
from pinsage_jax.training.trainer import make_optimizer

_STEPS = 5
_VISUAL = 64
_INPUTS = (Input("visual", "dense", _VISUAL, _VISUAL), Input("log_degree", "dense", 1, 1))
_STEP = "our step"
_PEER = "PyTorch's step"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rounds", type=whole_number, default=10, help="samples of each (default 10)"
    )
    parser.add_argument(
        "--skip-hard", action="store_true", help="leave out the hard negatives of epoch 5"
    )
    parser.add_argument(
        "--wide", action="store_true", help="steps of 2,048 pairs with 1,024 dimensions as well"
    )


def run(args: argparse.Namespace) -> Report:
    """Measure; see the module."""
    note("walks and neighbourhoods beside a compiled sampler")
    samples = measure(args.rounds)
    peer = "DGL neighbourhoods" if "DGL neighbourhoods" in samples else "numba neighbourhoods"
    steps_walked = BATCH * CONFIG.visits
    note("neighbours of all items")
    edges = graph_100k()
    samples |= {"table, T = 50 of 500 visits": [_table_seconds(edges) for _ in range(3)]}
    bench = _Bench(edges)
    config = PinSageConfig(curriculum="none", unit_length=True)  # as the peer
    note("training steps beside PyTorch")
    samples |= _against_torch(bench, config, args.rounds)
    note("shared beside separate negatives")
    samples |= _sharing(bench, args.rounds)
    details: dict[str, Any] = {}
    if not args.skip_hard:
        note("hard negatives")
        samples |= _hard_steps(bench, details, args.rounds)
    if args.wide:
        note("2,048 pairs, 1,024 dimensions")
        wide = dataclasses.replace(config, dim=1024, batch_size=2048)
        ours = _Steps(bench, wide)
        samples["our step, B = 2048, D = 1024"] = _per_step(ours, 3)
    note("all items, layer by layer and one mini-batch at a time")
    samples |= _inference(bench, config)
    medians = {name: statistics.median(values) for name, values in samples.items()}
    shared = ratio_of_medians(samples[_SEPARATE], samples[_SHARED])
    details |= {
        "walk_peer": peer,
        "visits_per_second": steps_walked / medians["neighbourhoods"],
        "separate_over_shared": {"value": shared.value, "interval": shared.interval},
    }
    return Report(
        name="pinsage",
        settings={"items": ITEMS, "edges": len(edges.items), "config": dataclasses.asdict(config)},
        samples=samples,
        claims=[
            Claim(
                "walk_msteps_per_second", steps_walked / medians["walks"] / 1e6, "M/s", ">=", 34.0
            ),
            ratio_claim("walk_ratio_to_peer", *_seconds_a_visit(samples, peer), ">=", 1.0),
            Claim("table_seconds", medians["table, T = 50 of 500 visits"], "s", "<", 15.0),
            Claim("step_seconds", medians[_STEP], "s", "<", 1.0),
            ratio_claim("step_speedup_vs_torch", samples[_PEER], samples[_STEP], ">=", 2.0),
            Claim("bulk_seconds", medians[_BULK], "s", "<", 15.0),
            ratio_claim("bulk_speedup", samples[_BATCHES], samples[_BULK], ">=", 5.0),
        ],
        details=details,
        threads={"jax": cores(), "torch": torch.get_num_threads()},
    )


class _Bench:
    """Items with features and neighbours."""

    def __init__(self, edges: Edges):
        self.edges = edges
        rng = np.random.default_rng(0)
        self.features = {
            "visual": rng.normal(size=(ITEMS, _VISUAL)).astype(np.float32),
            "log_degree": rng.normal(size=(ITEMS, 1)).astype(np.float32),
        }
        self.table = build_table(jax.random.key(0), edges.graph, neighbors=10, config=CONFIG)
        self.world = World(
            features={name: jnp.asarray(values) for name, values in self.features.items()},
            table=self.table,
            training_items=jnp.arange(ITEMS, dtype=jnp.int32),
            degree_of_none=jnp.float32(0.0),
        )

    def pairs(self, seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Items of random edges: their degrees are those of real pairs."""
        rng = np.random.default_rng(seed)
        drawn = rng.integers(0, len(self.edges.items), (2, count))
        queries, positives = self.edges.items[drawn]
        return queries, positives


class _Steps:
    """The compiled chunk of a training run; each call trains on."""

    def __init__(self, bench: _Bench, config: PinSageConfig, *, active: int = 0, world=None):
        self._bench, self._config, self._active = bench, config, jnp.int32(active)
        self._world = bench.world if world is None else world
        self.model = make_model(_INPUTS, config)
        self.params = init_params(jax.random.key(0), self.model)
        optimizer = make_optimizer(config, 100)
        most = bounds(num_targets(config, 1), config.neighbors, config.layers, ITEMS)
        batches = self._batches(0)
        counts = [
            np.asarray(
                count_nodes(
                    jax.random.key(i),
                    jax.tree.map(lambda part, i=i: part[i], batches),
                    self._active,
                    self._world,
                    config=config,
                    most=most,
                )
            )
            for i in range(_STEPS)
        ]
        self.capacities = declared_capacities([counts], most)
        self._chunk = make_chunk(self.model, optimizer, config, self.capacities)
        copied = jax.tree.map(jnp.copy, self.params)
        self._state = TrainState(copied, optimizer.init(copied))
        self._call = 0

    def _batches(self, seed: int) -> Batch:
        size = self._config.batch_size
        queries, positives = self._bench.pairs(seed, _STEPS * size)
        return Batch(
            jnp.asarray(queries.reshape(_STEPS, size, 1)),
            jnp.asarray(positives.reshape(_STEPS, size)),
            jnp.ones((_STEPS, size), jnp.float32),
        )

    def __call__(self) -> None:
        self._call += 1
        keys = jax.random.split(jax.random.key(self._call), _STEPS)
        self._state, records = self._chunk(
            self._state, self._batches(self._call), keys, self._active, self._world
        )
        jax.block_until_ready((self._state, records))


def _seconds_a_visit(samples: dict[str, list[float]], peer: str) -> tuple[list[float], list[float]]:
    """Seconds of a visit, the peer's and ours: its walks end at random, ours start again."""
    stays = 1 - CONFIG.restart
    length = (1 - stays**CONFIG.length) / CONFIG.restart
    theirs = [seconds / (BATCH * CONFIG.walks * length) for seconds in samples[peer]]
    return theirs, [seconds / (BATCH * CONFIG.visits) for seconds in samples["neighbourhoods"]]


def _table_seconds(edges: Edges) -> float:
    start = time.perf_counter()
    table = build_table(jax.random.key(1), edges.graph, neighbors=50, config=CONFIG)
    jax.block_until_ready(table.ids)
    return time.perf_counter() - start


def _against_torch(bench: _Bench, config: PinSageConfig, rounds: int) -> dict[str, list[float]]:
    # The peer shows every item as it is.
    config = dataclasses.replace(config, drop_contexts=0.0, mask_targets=False)
    ours = _Steps(bench, config)
    features = np.concatenate([bench.features[one.name] for one in _INPUTS], axis=1)
    peer = TorchPinSage(
        features,
        np.asarray(bench.table.ids),
        np.asarray(bench.table.weights),
        config.dim,
        config.layers,
    )
    peer.load(jax.tree.map(np.asarray, ours.params), [one.name for one in _INPUTS])
    trainer = Trainer(peer, learning_rate=config.learning_rate, margin=config.margin)
    pairs = bench.pairs(1, config.batch_size)

    def theirs() -> None:
        for _ in range(_STEPS):
            trainer.step(*pairs, config.negatives)

    samples = alternate({_STEP: ours, _PEER: theirs}, rounds=rounds, pause=0.01)
    return _divided(samples)


_SHARED, _SEPARATE = "500 shared negatives, B = 2048", "500 separate negatives, B = 2048"


def _sharing(bench: _Bench, rounds: int) -> dict[str, list[float]]:
    """What sharing the negatives of a batch saves, embedding a node once in both."""
    config = PinSageConfig(curriculum="none", batch_size=2048, dim=32)
    separate = dataclasses.replace(config, negative_choice="separate")
    contenders = {_SHARED: _Steps(bench, config), _SEPARATE: _Steps(bench, separate)}
    return _divided(alternate(contenders, rounds=min(rounds, 3)))


def _hard_steps(bench: _Bench, details: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """A step of epoch 5, four hard negatives a query, and what ranking them costs."""
    rows = np.random.default_rng(0).permutation(ITEMS)[:2_048].astype(np.int32)
    start = time.perf_counter()
    pool = make_pool(jax.random.key(0), bench.edges.graph, rows=np.sort(rows))
    seconds = time.perf_counter() - start
    details["hard_pool"] = {
        "items_ranked": len(rows),
        "seconds": seconds,
        "seconds_of_all_items": seconds * ITEMS / len(rows),
        "band": list(pool.band),
        "filled": pool.filled,
        "tied": pool.tied,
    }
    # The other items' pools are of random items: what a step costs does not depend on which.
    filler = np.random.default_rng(1).integers(0, ITEMS, pool.ids.shape, np.int32)
    world = dataclasses.replace(bench.world, hard_pool=jnp.asarray(filler))
    steps = _Steps(bench, PinSageConfig(), active=4, world=world)
    return {"our step of epoch 5, 4 hard negatives a query": _per_step(steps, rounds)}


_BULK, _BATCHES = "all items, layer by layer", "all items, one mini-batch at a time"


def _inference(bench: _Bench, config: PinSageConfig) -> dict[str, list[float]]:
    model = make_model(_INPUTS, config)
    params = init_params(jax.random.key(0), model)

    def bulk() -> None:
        embed_all(model, params, bench.features, bench.table)

    by_batches = _mini_batches(model, params, bench)
    return alternate({_BULK: bulk, _BATCHES: by_batches}, rounds=3)


def _mini_batches(model: PinSage, params: Any, bench: _Bench) -> Callable[[], None]:
    """All items, as training embeds them: 1,524 at a time, as a batch of 512 pairs has them."""
    size = 1_524
    layers = model.layers
    most = bounds(size, bench.table.ids.shape[1], layers, ITEMS)

    @functools.partial(jax.jit, static_argnames="capacities")
    def embed(
        params: Any, features: dict[str, Any], table: NeighborTable, ids: Any, capacities: Any
    ) -> Any:
        blocks = make_blocks(table, mark_layers(table, ids, layers, most), capacities)
        z = embed_blocks(model, params, take_features(features, blocks.nodes), blocks.layers)
        return z[blocks.place[ids]]

    ids = np.pad(np.arange(ITEMS, dtype=np.int32), (0, -ITEMS % size), mode="edge")
    parts = jnp.asarray(ids.reshape(-1, size))
    counted = jax.jit(lambda table, ids: mark_layers(table, ids, layers, most).counts)
    counts = [np.asarray(counted(bench.table, part)) for part in parts]
    # Just what the largest batch takes.
    capacities = tuple(int(count) for count in np.max(counts, axis=0))

    def run() -> None:
        for part in parts:
            jax.block_until_ready(
                embed(params, bench.world.features, bench.table, part, capacities)
            )

    return run


def _per_step(steps: _Steps, rounds: int) -> list[float]:
    return _divided(alternate({"steps": steps}, rounds=rounds))["steps"]


def _divided(samples: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: [value / _STEPS for value in values] for name, values in samples.items()}
