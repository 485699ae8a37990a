"""PinSAGE on 100,000 items and a million edges: walks, neighbours, training steps, all items.

Walks and neighbourhoods run beside a compiled sampler (DGL's where it is installed, else one in
numba). Training steps run beside the same encoder and step in PyTorch on the same neighbours, from
the same parameters; both draw their negatives and gather their blocks inside the step: once with
the default settings, structure and dropped contexts included, and once with the paper's loss of
cosines and neither.
Layer-wise inference runs beside embedding all items one mini-batch at a time.
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
import numba
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
from benchmarks.peers.torch_pinsage import trainer_of
from benchmarks.speed.pinsage_walks import measure, seconds_a_visit
from benchmarks.workloads.pins_100k import BATCH, CONFIG, graph_100k
from benchmarks.workloads.pinsage_steps import STEPS, Items, Steps, inputs_of
from pinsage_jax.config import PinSageConfig
from pinsage_jax.encoder.all_items import embed_all
from pinsage_jax.encoder.blocks import (
    bounds,
    embed_blocks,
    make_blocks,
    mark_layers,
    take_features,
)
from pinsage_jax.encoder.pinsage import PinSage, init_params, make_model
from pinsage_jax.graph.neighborhoods import NeighborTable, build_table
from pinsage_jax.graph.walks import WalkConfig
from pinsage_jax.negatives.hard import make_pool

_HARD_ROWS = 2_048
_HARD_EPOCH = 5  # by the paper's curriculum
_DEFAULTS = PinSageConfig()

_DEFAULT, _PEER = "our step", "PyTorch's step"
_PLAIN, _PLAIN_PEER = "our step, max-margin", "PyTorch's step, max-margin"
_HARD = f"our step with {_HARD_EPOCH - 1} hard negatives a query"
_SHARED, _SEPARATE = "500 shared negatives, B = 2048", "500 separate negatives, B = 2048"
_WIDE = "our step, max-margin, B = 2048, D = 1024"
_TABLE = "table, T = 50 of 500 visits"
_FANNED = "neighbours of 2,048 items, as by default: T = 50 of 16,000 visits"
_BULK, _BATCHES = "all items, layer by layer", "all items, one mini-batch at a time"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks pinsage``.
    """
    parser.add_argument(
        "--rounds", type=whole_number, default=10, help="samples of each (default 10)"
    )
    parser.add_argument("--skip-hard", action="store_true", help="leave out the hard negatives")
    parser.add_argument(
        "--wide", action="store_true", help="steps of 2,048 pairs with 1,024 dimensions as well"
    )


def run(args: argparse.Namespace) -> Report:
    """Measure; see the module.

    Args:
        args: the parsed options.

    Returns:
        Seconds of everything, and what is claimed of them.
    """
    torch.set_num_threads(cores())
    edges, rounds = graph_100k(), args.rounds
    note("walks and neighbourhoods beside a compiled sampler")
    samples = measure(edges, rounds)
    peer = "DGL neighbourhoods" if "DGL neighbourhoods" in samples else "numba neighbourhoods"
    steps_walked = BATCH * CONFIG.visits
    bench = Items(edges)
    plain = plain_config()
    details: dict[str, Any] = {}
    note("training steps beside PyTorch")
    samples |= _steps_beside_torch(bench, plain, rounds, hard=not args.skip_hard)
    note("shared beside separate negatives")
    samples |= _sharing(bench, rounds)
    if not args.skip_hard:
        note("hard negatives of some items")
        details["hard_pool"] = _hard_pool(bench)
    if args.wide:
        note("2,048 pairs, 1,024 dimensions")
        wide = Steps(bench, dataclasses.replace(plain, dim=1024, batch_size=2048))
        samples |= _per_step(alternate({_WIDE: wide.epoch(0)}, rounds=rounds))
    note("all items: their neighbours, their vectors layer by layer and one mini-batch at a time")
    samples |= _all_items(bench, plain, rounds, details)
    medians = {name: statistics.median(values) for name, values in samples.items()}
    details |= {
        "walk_peer": peer,
        "visits_per_second": steps_walked / medians["neighbourhoods"],
        "separate_over_shared": ratio_of_medians(samples[_SEPARATE], samples[_SHARED])._asdict(),
        "default_over_plain_step": ratio_of_medians(samples[_DEFAULT], samples[_PLAIN])._asdict(),
    }
    return Report(
        name="pinsage",
        settings={
            "items": edges.graph.num_items,
            "edges": len(edges.items),
            "rounds": rounds,
            "config": dataclasses.asdict(_DEFAULTS),
            "peer_config": dataclasses.asdict(plain),
        },
        samples=samples,
        claims=[
            Claim(
                "walk_msteps_per_second", steps_walked / medians["walks"] / 1e6, "M/s", ">=", 34.0
            ),
            ratio_claim("walk_ratio_to_peer", *seconds_a_visit(samples, peer), ">=", 1.0),
            Claim("table_seconds", medians[_TABLE], "s", "<", 15.0),
            Claim("default_step_seconds", medians[_DEFAULT], "s", "<", 1.0),
            ratio_claim("step_speedup_vs_torch", samples[_PEER], samples[_DEFAULT], ">=", 3.0),
            ratio_claim(
                "plain_step_speedup_vs_torch", samples[_PLAIN_PEER], samples[_PLAIN], ">=", 2.0
            ),
            Claim("bulk_seconds", medians[_BULK], "s", "<", 15.0),
            ratio_claim("bulk_speedup", samples[_BATCHES], samples[_BULK], ">=", 5.0),
        ],
        details=details,
        threads={
            "jax": cores(),
            "torch": torch.get_num_threads(),
            "numba": numba.get_num_threads(),
        },
    )


def plain_config() -> PinSageConfig:
    """Settings without what the default adds: cosines in the paper's loss, every item as it is,
    and no structure."""
    return dataclasses.replace(
        _DEFAULTS,
        structure=0,
        loss="max-margin",
        unit_length=True,
        drop_contexts=0.0,
        mask_targets=False,
    )


def _steps_beside_torch(
    bench: Items, plain: PinSageConfig, rounds: int, *, hard: bool
) -> dict[str, list[float]]:
    """Our steps and PyTorch's, in one alternation; with ``hard`` also ours with hard negatives, as
    the paper's epoch 5 has them."""
    contenders: dict[str, Callable[[], None]] = {}
    for config, own, peer in ((_DEFAULTS, _DEFAULT, _PEER), (plain, _PLAIN, _PLAIN_PEER)):
        ours = Steps(bench, config)
        contenders |= {own: ours.epoch(0), peer: _torch_steps(bench, config, ours.params)}
    if hard:
        paper = dataclasses.replace(_DEFAULTS, curriculum="paper")
        contenders[_HARD] = Steps(bench, paper).epoch(_HARD_EPOCH - 1)
    return _per_step(alternate(contenders, rounds=rounds))


def _torch_steps(bench: Items, config: PinSageConfig, params: Any) -> Callable[[], None]:
    """As many steps of the peer, from the same parameters."""
    features = {one.name: bench.features[one.name] for one in inputs_of(config)}
    trainer = trainer_of(config, features, bench.arrays, params)
    pairs = bench.pairs(1, config.batch_size)

    def steps() -> None:
        for _ in range(STEPS):
            trainer.step(*pairs, config.negatives)

    return steps


def _sharing(bench: Items, rounds: int) -> dict[str, list[float]]:
    """What sharing the negatives of a batch saves, embedding a node once in both."""
    shared = dataclasses.replace(_DEFAULTS, structure=0, batch_size=2048, dim=32)
    separate = dataclasses.replace(shared, negative_choice="separate")
    contenders = {
        _SHARED: Steps(bench, shared).epoch(0),
        _SEPARATE: Steps(bench, separate).epoch(0),
    }
    return _per_step(alternate(contenders, rounds=rounds))


def _hard_pool(bench: Items) -> dict[str, Any]:
    """What ranking the hard negatives of some items costs, and what is found."""
    rows = np.random.default_rng(0).permutation(bench.items)[:_HARD_ROWS].astype(np.int32)
    start = time.perf_counter()
    pool = make_pool(jax.random.key(0), bench.edges.graph, rows=np.sort(rows))
    seconds = time.perf_counter() - start
    return {
        "items_ranked": len(rows),
        "seconds": seconds,
        "seconds_of_all_items": seconds * bench.items / len(rows),
        "band": list(pool.band),
        "filled": pool.filled,
        "tied": pool.tied,
    }


def _all_items(
    bench: Items, config: PinSageConfig, rounds: int, details: dict[str, Any]
) -> dict[str, list[float]]:
    model = make_model(inputs_of(config), config)
    params = init_params(jax.random.key(0), model)
    features = {one.name: bench.features[one.name] for one in model.inputs}
    some = np.random.default_rng(0).permutation(bench.items)[:BATCH]

    def table(walks: WalkConfig = CONFIG, rows: np.ndarray | None = None) -> None:
        jax.block_until_ready(
            build_table(jax.random.key(1), bench.edges.graph, neighbors=50, config=walks, rows=rows)
        )

    def bulk() -> None:
        embed_all(model, params, features, bench.table)

    contenders = {
        _TABLE: table,
        _FANNED: lambda: table(_DEFAULTS.walk_config, some),
        _BULK: bulk,
        _BATCHES: _mini_batches(model, params, bench),
    }
    samples = alternate(contenders, rounds=rounds)
    waited = bench.first_table_seconds - statistics.median(samples[_TABLE])
    details["table_compile_seconds"] = max(0.0, waited)
    return samples


def _mini_batches(model: PinSage, params: Any, bench: Items) -> Callable[[], None]:
    """All items, as training embeds them: 2,548 at a time, as a batch of 1,024 pairs has them."""
    size = 2_548
    layers, features = model.layers, bench.features_of(model)
    most = bounds(size, bench.table.ids.shape[1], layers, bench.items)

    @functools.partial(jax.jit, static_argnames="capacities")
    def embed(
        params: Any, features: dict[str, Any], table: NeighborTable, ids: Any, capacities: Any
    ) -> Any:
        blocks = make_blocks(table, mark_layers(table, ids, layers, most), capacities)
        z = embed_blocks(model, params, take_features(features, blocks.nodes), blocks.layers)
        return z[blocks.place[ids]]

    ids = np.pad(np.arange(bench.items, dtype=np.int32), (0, -bench.items % size), mode="edge")
    parts = jnp.asarray(ids.reshape(-1, size))
    counted = jax.jit(lambda table, ids: mark_layers(table, ids, layers, most).counts)
    counts = [np.asarray(counted(bench.table, part)) for part in parts]
    # Just what the largest batch takes.
    capacities = tuple(int(count) for count in np.max(counts, axis=0))

    def run() -> None:
        for part in parts:
            jax.block_until_ready(embed(params, features, bench.table, part, capacities))

    return run


def _per_step(samples: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: [value / STEPS for value in values] for name, values in samples.items()}
