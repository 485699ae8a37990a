"""What test_on_a_mesh.py asserts of, in a process of its own that has eight devices.

Prints one JSON object; run as ``python -m tests.pinsage.training.on_eight_devices FOLDER NAME …``.
"""

import contextlib
import io
import json
import os
import re
import sys
from pathlib import Path

# Beside what the suite sets for all of its processes.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_force_host_platform_device_count=8"
)

import jax
import numpy as np

from lightgcn_jax.roofline.collectives import read_collectives
from lightgcn_jax.sharding import mesh_of
from pinsage_jax.cli.program import main
from pinsage_jax.encoder.all_items import embed_all
from pinsage_jax.planning import Workload, plan
from pinsage_jax.runs.fit import fit, resume
from pinsage_jax.training import division
from pinsage_jax.training.division import Division
from pinsage_jax.training.epochs import make_chunk
from pinsage_jax.training.preparation import prepare
from pinsage_jax.training.trainer import Trainer
from tests.pinsage.trained import Breaking, Killed, pins_task, tiny

MESHES = ("model=8", "data=2,model=4", "data=8")
CASES = {
    "default": {},
    "targets hidden, laws, mates": {
        "folds": 0, "drop_contexts": 0.3, "in_batch": True, "negative_law": "degree",
    },
    "separate negatives": {
        "negative_choice": "separate", "negative_law": "degree", "negatives": 8,
    },
    "by distance": {
        "negative_choice": "distance-weighted", "unit_length": True, "loss": "max-margin",
        "hard_weight": 0.3,
    },
    # Neither rows nor negatives divide by eight.
    "largest messages, towers, own vectors": {
        "pooling": "max", "query": "tower", "loss": "bpr", "id_embedding": True,
        "batch_size": 60, "negatives": 33,
    },
    "features alone": {"pooling": "none", "layers": 0, "loss": "binary", "structure": 0},
}  # fmt: skip


def trained(prepared, config, mesh):
    """Parameters after twenty steps, the losses of these, and the trainer."""
    trainer = Trainer(pins_task(), config, prepared, mesh=mesh)
    state, losses = trainer.division.placed(trainer.start().state), []
    for epoch in (1, 2):
        # From the second epoch on hard negatives count.
        moves = trainer.epochs.run(state, epoch, steps=10, active=2 * (epoch - 1))
        for moved, records in moves:
            state = moved
            losses += np.asarray(records.loss).tolist()
    return jax.tree.map(np.asarray, state.params), np.array(losses), trainer


def largest(first, second):
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return float(np.max([np.abs(a - b).max() for a, b in pairs]))


def differences(meshes, **settings):
    """The largest difference of a parameter and of a loss, by mesh."""
    config = tiny(**settings)
    prepared, found = prepare(pins_task(), config), {}
    alone, losses, _ = trained(prepared, config, None)
    for mesh in meshes:
        shared, others, _ = trained(prepared, config, mesh)
        found[mesh] = [largest(alone, shared), float(np.abs(losses - others).max())]
    return found


def preparation():
    """Structure and pools of hard negatives of a graph that is too large for a device, beside those
    of one: the largest difference, how many pooled items are others, and how many there are."""
    task, config = pins_task(), tiny(curriculum="all", hard_cap=4)
    alone = prepare(task, config, mesh="data=2,model=4")  # one device holds it
    division.device_memory = lambda: 2**16
    shared = prepare(task, config, mesh="data=2,model=4")
    contexts, others = (one.structure.contexts for one in (alone, shared))
    pools, other_pools = (np.asarray(one.hard.ids) for one in (alone, shared))
    return {
        "structure": float(np.abs(contexts - others).max()),
        "largest": float(np.abs(contexts).max()),
        "other_pooled": int((pools != other_pools).sum()),
        "pooled": int((pools >= 0).sum()),
    }


def all_items(meshes):
    """The largest difference of a layer of all items, by mesh."""
    config = tiny()
    prepared, found = prepare(pins_task(), config), {}
    params = Trainer(pins_task(), config, prepared).start().best
    given = prepared.model, params, prepared.features, prepared.table
    alone = embed_all(*given)
    for mesh in meshes:
        shared = embed_all(*given, chunk=90, mesh=mesh_of(mesh))
        found[mesh] = largest((alone.layers, alone.vectors), (shared.layers, shared.vectors))
    return found


def program():
    """The compiled step of a catalogue of which a batch reads little."""
    work = Workload(
        items=20_000, memberships=100_000, width=32, dim=16, neighbors=8, structure=12,
        batch_size=64, negatives=36, hard=2,
    )  # fmt: skip
    mesh = mesh_of("data=2,model=4")
    made = plan(work, "here", mesh="data=2,model=4", compiled=False)
    chunk = make_chunk(work.model, work.optimizer, work.config, (work.most(8),), Division(mesh))
    text = chunk.lower(*work.step_arguments(mesh)).compile().as_text()
    shapes = {tuple(map(int, one.split(","))) for one in re.findall(r"[fs]32\[([\d,]+)\]", text)}
    received: dict[str, int] = {}
    for one in read_collectives(text, 8):
        received[one.kind] = received.get(one.kind, 0) + one.received * one.times
    return {
        "whole_tables": [one for one in shapes if len(one) > 1 and max(one) >= work.items],
        "callbacks": text.count("callback"),
        "received": received,
        "planned": made.received_at_most,
    }


def gone_on(folder):
    """A run that is broken off on one mesh and goes on on others, and one that is not."""
    config, found = tiny(epochs=3), {}
    whole = fit(pins_task(), config, mesh="model=4")
    for number, mesh in enumerate((None, "data=2,model=2")):
        path = folder / f"run{number}"
        with contextlib.suppress(Killed):
            fit(pins_task(), config, out=path, reporter=Breaking("advanced", 3), mesh="model=4")
        went_on = resume(path, mesh=mesh)
        found[str(mesh)] = float(np.abs(whole.items.vectors - went_on.items.vectors).max())
        assert went_on.summary["epochs"] == 3
    return found


def command(folder):
    """The command line's outcome, and what it says."""
    rng = np.random.default_rng(0)
    pairs = [f"b{board},p{pin}" for board in range(40) for pin in rng.permutation(90)[:8]]
    log, run = folder / "log.csv", folder / "run"
    log.write_text("\n".join(["board,pin", *pairs]) + "\n")
    few = ["--data", str(log), "--epochs", "1", "--dim", "8", "--walks", "10", "--structure", "0"]
    few += ["--user-column", "board", "--item-column", "pin", "--steps-per-epoch", "2"]
    few += ["--ks", "5", "--batch-size", "32", "--folds", "0"]
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = main(["train", *few, "--mesh", "auto", "--out", str(run)])
        refused = [
            main(["train", *few, *given, "--out", str(folder / "none")])
            for given in (("--mesh", "data=3"), ("--mesh", "auto", "--tables", "host"))
        ]
    summary = json.loads((run / "summary.json").read_text())
    return {
        "code": code,
        "refused": refused,
        "said": said.getvalue(),
        "mesh": summary["mesh"],
        "left": (folder / "none").exists(),
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    answers = {
        "default": lambda: differences(("data=2,model=4",)),
        "preparation": preparation,
        "all items": lambda: all_items(MESHES),
        "program": program,
        "gone on": lambda: gone_on(folder),
        "command": lambda: command(folder),
        "every case": lambda: {
            name: differences(MESHES, **settings) for name, settings in CASES.items()
        },
    }
    print(json.dumps({name: answers[name]() for name in sys.argv[2:]}))
