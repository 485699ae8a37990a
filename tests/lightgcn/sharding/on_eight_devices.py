"""What test_mesh.py asserts of, in a process of its own that has eight devices.

Prints one JSON object; run as ``python -m tests.lightgcn.sharding.on_eight_devices FOLDER NAME …``.
"""

import contextlib
import io
import json
import os
import re
import sys
import warnings
from pathlib import Path

# Beside what the suite sets for all of its processes.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_force_host_platform_device_count=8"
)

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from lightgcn_jax import fit, resume
from lightgcn_jax.cli.program import main
from lightgcn_jax.data import generate_world, ratio_split
from lightgcn_jax.diffusion import diffuse, diffusion_operator
from lightgcn_jax.diffusion.native import NativeStorage
from lightgcn_jax.diffusion.operator import operator_of
from lightgcn_jax.diffusion.spectral import starting_block, truncated_svd
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import InnerProduct, block, rank
from lightgcn_jax.evaluation.sharded import ShardedTables
from lightgcn_jax.graph import normalized_interactions, training_graph
from lightgcn_jax.graph.bipartite import csr_rows
from lightgcn_jax.interrupts import Interrupted
from lightgcn_jax.models import MLP
from lightgcn_jax.planning.estimate import estimate
from lightgcn_jax.planning.program import step_arguments
from lightgcn_jax.planning.workload import Workload
from lightgcn_jax.roofline.collectives import read_collectives
from lightgcn_jax.runs import SilentReporter
from lightgcn_jax.runs.checkpoint import find_damage
from lightgcn_jax.runs.mesh_checkpoint import load_together, save_together
from lightgcn_jax.runs.progress import Progress, TrainArrays
from lightgcn_jax.runs.shard_files import SHARDS
from lightgcn_jax.runs.trainer import Trainer
from lightgcn_jax.settings import from_flat
from lightgcn_jax.sharding import Blocks, Layout, Sharded, ShardSizes, mesh_of
from lightgcn_jax.sharding.rows import places_of, rows_on

MESHES = ("model=8", "data=2,model=4", "data=8")
# Neither side divides by 8.
WORLD = generate_world(users=121, items=83, mean_degree=12, groups=4, seed=1)
SPLIT = ratio_split(WORLD.interactions, seed=0).in_canonical_order()
FEW = {
    "dim": 8, "epochs": 5, "batch_size": 256, "negatives": 16, "ks": (5, 10),
    "evaluate_every": 5, "patience": 0, "learning_rate": 0.02,
}  # fmt: skip

# Of a gradient near 0, of which a GNN has many, Adam's own ε of 1e-8 makes a step of full size in
# the direction of its rounding.
STEADY = optax.adam(FEW["learning_rate"], eps=1e-4)


def trained(mesh, optimizer=None, **settings):
    """The outcome of about 20 steps on the very same rows."""
    config = from_flat(FEW | settings)
    trainer = Trainer(SPLIT, config, optimizer, None, SilentReporter(), mesh=mesh_of(mesh))
    start = TrainArrays.start(trainer.initial_states())
    return trainer.train(start, Progress.start(settings.get("seeds", 1)))


def differences(meshes, **settings):
    """The largest difference of the items' vectors, and whether all figures are the same."""
    alone, found = trained(None, **settings), {}
    for mesh in meshes:
        shared = trained(mesh, **settings)
        pairs = zip(alone.scorer.embeddings(), shared.scorer.embeddings(), strict=True)
        users, items = (float(np.abs(a - b).max()) for a, b in pairs)
        same = alone.summary["test"] == shared.summary["test"]
        same &= alone.summary["parameters"] == shared.summary["parameters"]
        found[mesh] = {"users": users, "items": items, "same_figures": same}
    return found


@jax.jit
def _applied(operator, x, g):
    """An application, its derivative, and both tables at once by the operator and its transpose."""
    y, pull = jax.vjp(lambda x: diffuse(operator, x), x)
    [pulled] = pull(g)
    wide = jax.vmap(diffuse, (None, 0))(operator, jnp.stack([x, g]))[0]
    return (
        y,
        pulled,
        jnp.stack([wide, jax.vmap(diffuse, (None, 0))(operator.transpose(), g[None])[0]]),
    )


def applications():
    """Errors of an application and of its derivative, by exchange, kernel and normalization."""
    graph = training_graph(SPLIT)
    layout = Layout(graph.num_users, graph.num_items, mesh_of("data=2,model=4"))
    x, g = (
        np.random.default_rng(seed).normal(size=(graph.num_nodes, 5)).astype(np.float32)
        for seed in (0, 1)
    )
    found = {}
    for normalization, kernel, exchange in (
        ("symmetric", "native", "needed"),
        ("symmetric", "segment", "gather"),
        ("row", "native", "gather"),
        ("row", "segment", "needed"),
    ):
        dense = np.asarray(diffusion_operator(graph, normalization=normalization).materialise())
        maker = Sharded(layout, kernel, exchange)
        operator = diffusion_operator(graph, backend=maker, normalization=normalization)
        at, given = (layout.put({"table": table})["table"] for table in (x, g))
        y, pulled, both = _applied(operator, at, given)
        got = (layout.take({"table": table})["table"] for table in (y, pulled))
        expected = dense @ x, dense.T @ g
        errors = [float(np.abs(a - b).max()) for a, b in zip(got, expected, strict=True)]
        errors.append(float(np.abs(both - np.stack([y, pulled])).max()))
        found[f"{normalization} {kernel} {exchange}"] = float(np.max(errors))
    wire = Sharded(layout, "segment", "needed", np.dtype("bfloat16"))
    operator = diffusion_operator(graph, backend=wire)
    y = layout.take({"table": jax.jit(diffuse)(operator, layout.put({"table": x})["table"])})[
        "table"
    ]
    dense = np.asarray(diffusion_operator(graph).materialise())
    found["bfloat16 on the wire"] = float(np.abs(y - dense @ x).max())
    return found


def blocks():
    """Errors of a rectangular matrix, of its transpose and of its singular vectors, by kernel; and
    arrays of a shard's program that are as long as a whole table."""
    world = generate_world(users=1210, items=830, mean_degree=5, groups=16, seed=1)
    graph = training_graph(ratio_split(world.interactions, seed=0).in_canonical_order())
    matrix, key, rank = normalized_interactions(graph), jax.random.key(0), 8
    dense, alone = matrix.as_scipy(), truncated_svd(operator_of(matrix), key, rank=rank)
    rng, found = np.random.default_rng(0), {}
    x, g = (rng.normal(size=(count, 5)).astype(np.float32) for count in matrix.shape[::-1])
    for kernel in ("native", "segment"):
        laid_out = Blocks(mesh_of("model=8"), kernel)
        operator = operator_of(matrix, backend=laid_out)
        y = jax.jit(diffuse)(operator, laid_out.put(x))
        pulled = jax.jit(diffuse)(operator.transpose(), laid_out.put(g))
        start = laid_out.put(np.asarray(starting_block(key, matrix.shape, rank)))
        svd = truncated_svd(operator, key, rank=rank, start=start)
        right = laid_out.take(svd.right, matrix.shape[1])
        spans = (np.asarray(one) @ np.asarray(one).T for one in (alone.right, right))
        pairs = {
            "product": (laid_out.take(y, matrix.shape[0]), dense @ x),
            "transpose": (laid_out.take(pulled, matrix.shape[1]), dense.T @ g),
            "values": (np.asarray(svd.values), np.asarray(alone.values)),
            "span": tuple(spans),
        }
        errors = {name: float(np.abs(a - b).max()) for name, (a, b) in pairs.items()}
        text = jax.jit(diffuse).lower(operator, laid_out.put(x)).compile().as_text()
        sizes = {tuple(map(int, one.split(","))) for one in re.findall(r"f32\[([\d,]+)\]", text)}
        whole = [one for one in sizes if max(one) >= min(matrix.shape)]
        found[kernel] = errors | {"exchange": operator.storage.exchange, "whole": whole}
    return found


def without_kernels():
    """What ``auto`` takes where kernels of our own do not run, as on a GPU or a TPU."""
    NativeStorage.obstacle = classmethod(lambda *_: "not on this platform")
    config = from_flat(FEW | {"epochs": 1})
    trainer = Trainer(SPLIT, config, None, None, SilentReporter(), mesh=mesh_of("model=8"))
    return [trainer.backend, type(trainer.inputs.operator.storage.local).__name__]


def tables_on(mesh, users, items, scorer):
    """A scorer's tables laid out on a mesh, and filled up as training has them."""

    def spread(table):
        each = -(-len(table) // mesh.shape["model"])
        wide = np.pad(table, ((0, each * mesh.shape["model"] - len(table)), (0, 0)))
        place = NamedSharding(mesh, PartitionSpec("model", None))
        return jax.device_put(wide, place)

    tables = scorer(spread(users), spread(items))
    return ShardedTables(tables, len(users), len(items), mesh, "model")


def rankings():
    """Lists of one device and of a mesh, by scorer and mesh: the numbers that differ."""
    rng, found = np.random.default_rng(0), {}
    whole = rng.integers(-1, 2, (121, 3)), rng.integers(-1, 2, (83, 3))  # full of ties
    whole = tuple(table.astype(np.float32) for table in whole)
    real = tuple(rng.normal(size=(count, 8)).astype(np.float32) for count in (121, 83))
    seen = rng.permutation(121 * 83)[:2_000]
    seen = csr_rows(seen // 83, seen % 83, 121)
    network = MLP(4)
    head = network.init(jax.random.key(0), 8)
    cases = {
        "ties": (whole, InnerProduct),
        "inner products": (real, InnerProduct),
        "a network": (real, lambda users, items: network.scorer(users, items, head)),
    }
    chosen = block.on_platform
    for kernels in (True, False):
        block.on_platform = chosen if kernels else lambda _, other: other
        jax.clear_caches()
        for name, (tables, scorer) in cases.items():
            for wanted in ("model=8", "data=2,model=4") if kernels else ("data=4,model=2",):
                mesh = mesh_of(wanted)
                for k, left_out in ((10, seen), (83, None)) if name == "ties" else ((10, seen),):
                    rows = np.arange(1, 121)
                    alone = rank(scorer(*tables), rows, k, seen=left_out)
                    shared = rank(tables_on(mesh, *tables, scorer), rows, k, seen=left_out)
                    other = int((alone.items != shared.items).sum())
                    close = np.allclose(alone.scores, shared.scores, 1e-6, 1e-6)
                    found[f"{name} {wanted} {k} {kernels}"] = other + (not close)
    block.on_platform = chosen
    return found


def rows():
    """Rows of a table in shares that devices look up, by mesh: the entries that are others."""
    rng, found = np.random.default_rng(0), {}
    table = rng.normal(size=(1001, 3)).astype(np.float32)
    anywhere = rng.integers(0, 1001, (8, 30, 2)).astype(np.int32)
    asked = {
        "anywhere": anywhere,
        "of few": anywhere % 5,
        # All of one shard: more than it is asked for at a time.
        "of one": anywhere // 8 * 8,
    }
    axes = PartitionSpec(("data", "model"))
    for wanted in ("model=8", "data=2,model=4"):
        shares = rows_on(mesh_of(wanted), table)
        looked_up = jax.jit(
            jax.shard_map(
                lambda shares, of_device: shares[of_device],
                mesh=mesh_of(wanted), in_specs=(places_of(shares), axes), out_specs=axes,
                check_vma=False,
            )
        )  # fmt: skip
        for name, ids in asked.items():
            other = np.asarray(looked_up(shares, ids)) != table[ids]
            found[f"{wanted} {name}"] = int(other.sum())
    return found


def program():
    """The compiled steps of a graph whose shards read little of each other."""
    world = generate_world(users=1210, items=830, mean_degree=5, groups=16, seed=1)
    split = ratio_split(world.interactions, seed=0).in_canonical_order()
    config = from_flat(FEW | {"backend": "segment"})
    trainer = Trainer(split, config, None, None, SilentReporter(), mesh=mesh_of("data=2,model=4"))
    layout, storage = trainer.layout, trainer.inputs.operator.storage
    states = layout.put(trainer.initial_states())
    steps = trainer._programs.steps.lower(states, *trainer._arguments(Progress.start(1))).compile()
    text = steps.as_text()
    # Of floating-point numbers: what is drawn and looked up may be as long as it likes.
    sizes = {tuple(map(int, shape.split(","))) for shape in re.findall(r"f32\[([\d,]+)\]", text)}
    multiplied = jax.make_jaxpr(storage.multiply)(states.params.model.table[0])
    sent = re.search(r"f32\[([\d,]+)\] = all_to_all", str(multiplied))
    plan = planned(trainer, split)
    size, devices = int(np.prod([int(one) for one in sent[1].split(",")])), layout.shards
    return {
        "rows": layout.num_rows,
        "exchange": storage.exchange,
        "whole_tables": [shape for shape in sizes if layout.num_rows in shape],
        "callbacks": text.count("callback"),
        "bytes_planned": storage.bytes_received(8),
        "bytes_in_program": size * 4 * (devices - 1) // devices,
        **plan,
        "received": received(text, trainer.plan.steps_per_call),
    }


def planned(trainer, split):
    """What a plan says of a step on the mesh, given what the graph decided of its shards."""
    layout, storage = trainer.layout, trainer.inputs.operator.storage
    edges = len(split.train)
    sizes = ShardSizes(storage.local.senders.shape[1], storage.sent.shape[2], 2 * edges / 4)
    workload = Workload(
        users=layout.num_users, items=layout.num_items, edges=edges,
        dim=FEW["dim"], batch_size=FEW["batch_size"], negatives=FEW["negatives"],
    )  # fmt: skip
    described = step_arguments(workload, layout, sizes)
    states = layout.put(trainer.initial_states())
    given = states, *trainer._arguments(Progress.start(1))

    def shapes(tree):
        """Of what there is, its place, and how much of it lies on a device."""
        found = {}
        for path, leaf in jax.tree.flatten_with_path(tree)[0]:
            place = leaf.sharding.shard_shape(leaf.shape)
            found[jax.tree_util.keystr(path)] = (str(leaf.dtype), leaf.shape, place)
        return found

    said, made = shapes(described), shapes(given)
    # Users without an item are not drawn.
    different = [name for name in made if made[name] != said.get(name)]
    return {
        "described_otherwise": [one for one in different if "users_with_items" not in one],
        "described": len(said),
        "received_planned": estimate(workload, (2, 4), sizes).received,
    }


def received(text, steps):
    """Bytes that a device gets in a step, by kind, and whether every loop's turns are known."""
    found = read_collectives(text, 8)
    kinds, exchanged = dict.fromkeys((one.kind for one in found), 0.0), 0.0
    for one in found:
        kinds[one.kind] += one.received * one.times / steps
        exchanged += one.received * one.times / steps if "/shard_map/" in one.operation else 0
    known = all(one.known for one in found)
    return {"known": known, "kinds": kinds, "exchanged": exchanged}


def checkpoints(folder):
    """Arrays written on one mesh and read on others: which of them came otherwise, or damaged."""
    rng, adam = np.random.default_rng(0), optax.adam(0.1)
    tables = {"table": jnp.asarray(rng.normal(size=(1, 121 + 83, 8)), jnp.float32)}
    whole = {"params": tables, "opt": adam.init(tables), "alphas": jnp.arange(4.0)}
    whole["opt"][0].mu["table"] = tables["table"] ** 2
    meshes = ("model=8", "data=4,model=2", None)
    layouts = {mesh: mesh and Layout(121, 83, mesh_of(mesh)) for mesh in meshes}
    found, run = {}, folder / "checkpoints"
    for at, written in enumerate(meshes[:2]):
        layout = layouts[written]
        save_together(run, at, layout.put(whole), {"at": at}, layout)
        for mesh, other in layouts.items():
            read = load_together(run, whole, other)
            taken = read.arrays if other is None else other.take(read.arrays)
            same = jax.tree.map(np.array_equal, whole, taken)
            same = all(jax.tree.leaves(same)) and read.progress == {"at": at}
            places = other is None or jax.tree.map(
                lambda leaf, described: leaf.sharding == described.sharding,
                read.arrays, other.described(whole),
            )  # fmt: skip
            found[f"{written} to {mesh}"] = same and all(jax.tree.leaves(places))
    found["whole"] = find_damage(run / "step-000000000001")
    found["names"] = sorted(path.name for path in run.iterdir())
    try:
        load_together(run, whole | {"alphas": jnp.arange(5.0)}, layouts["model=8"])
    except InputError as error:
        found["others"] = str(error)
    file = run / "step-000000000001" / SHARDS / "00004.users" / "c" / "0" / "1" / "0"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found["fallen back to"] = load_together(run, whole, layouts["model=8"]).progress
    found["said"] = [str(one.message) for one in said]
    return found


class Killed(SilentReporter):
    """Breaks off after the second epoch."""

    def epoch_ended(self, records):
        if records[0]["epoch"] == 2:
            raise KeyboardInterrupt


def gone_on(folder):
    """A run that is broken off on one mesh and goes on on others, and one that is not."""
    config = from_flat(FEW | {"evaluate_every": 1, "checkpoint_seconds": 0.0})
    whole, found = fit(SPLIT, config, mesh="model=4"), {}
    for number, mesh in enumerate((None, "data=2,model=2")):
        try:
            fit(SPLIT, config, out=folder / f"run{number}", reporter=Killed(), mesh="model=4")
        except Interrupted:
            went_on = resume(folder / f"run{number}", mesh=mesh)
            pairs = zip(whole.scorer.embeddings(), went_on.scorer.embeddings(), strict=True)
            found[str(mesh)] = float(np.max([np.abs(a - b).max() for a, b in pairs]))
            assert went_on.summary["epochs"] == 5
    return found


def command(folder):
    """The command line's outcome, and what it says where seven of the devices are idle."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        main(["train", "--epochs", "1", "--dim", "8", "--out", str(folder / "alone")])
    given = ["train", "--epochs", "2", "--dim", "8", "--mesh", "auto", "--quiet"]
    code = main([*given, "--out", str(folder / "run")])
    summary = json.loads((folder / "run" / "summary.json").read_text())
    tells = "One of 8 devices is used" in said.getvalue()
    return {"code": code, "tells": tells} | {
        name: summary.get(name) for name in ("mesh", "exchange", "edges_most_over_mean")
    }


if __name__ == "__main__":
    folder, answers = (
        Path(sys.argv[1]),
        {
            "applications": applications,
            "rows": rows,
            "blocks": blocks,
            "without kernels": without_kernels,
            "rankings": rankings,
            "lightgcn": lambda: differences(("data=2,model=4",), layers=2),
            "program": program,
            "checkpoints": lambda: checkpoints(folder),
            "gone on": lambda: gone_on(folder),
            "command": lambda: command(folder),
            "every model": lambda: {
                name: differences(MESHES, **settings)
                for name, settings in {
                    "lightgcn": {},
                    "lightgcn, two seeds": {"seeds": 2},
                    "mf": {"model": "mf"},
                    "mf, lazily": {"model": "mf", "lazy_adam": True},
                    "gcn": {"model": "gcn"},
                    "sgc": {"model": "sgc"},
                    "ngcf": {"model": "ngcf", "layers": 2},
                    "gnn": {"model": "gnn", "layers": 2, "optimizer": STEADY},
                }.items()
            },
        },
    )
    print(json.dumps({name: answers[name]() for name in sys.argv[2:]}))
