"""The command plan: what a run would take of an accelerator."""

from __future__ import annotations

import json as json_text
from dataclasses import dataclass
from typing import Annotated

from lightgcn_jax.cli.console import facts, results, say, table
from lightgcn_jax.cli.runs import Switch
from lightgcn_jax.cli.settings import flag
from lightgcn_jax.memory import in_words
from lightgcn_jax.planning.plan import Plan as Planned
from lightgcn_jax.planning.plan import plan
from lightgcn_jax.planning.workload import Workload
from lightgcn_jax.roofline.accelerators import accelerator_of
from lightgcn_jax.training.optimizer import Sampling


@dataclass(frozen=True)
class Plan:
    """Say what LightGCN's steps on a graph of that size take of an accelerator, without either.

    Memory, traffic and time of a step are printed by formula. For a TPU, which need not be here,
    and for the devices that are, the step itself is compiled too, and its memory and its
    collectives are read from the program; for a TPU that needs libtpu (the extra `tpu`) and takes
    some minutes. Times are those of the published bandwidths, which no program reaches.

    Attributes:
        users: users U.
        items: items I.
        edges: training interactions E.
        dim: dimensions D of an embedding.
        layers: applications K of Ã.
        batch_size: rows of a mini-batch.
        negatives: items that a batch shares as negatives.
        sampling: how training draws positives.
        accelerator: `h200`, `v5e`, `v5p`, `v6e`, or `k80`, half a board of 2014; with the shape of
            a slice, `v6e:16x16`, or a number, `h200:8`; `here` for the devices that JAX sees.
        devices: how many, where the accelerator's name does not say.
        mesh: as `train` takes it; all devices.
        no_compile: do not compile the step.
        json: print JSON.
    """

    users: Annotated[int, flag("N")]
    items: Annotated[int, flag("N")]
    edges: Annotated[int, flag("N")]
    accelerator: Annotated[str, flag("NAME[:SHAPE]")]
    devices: Annotated[int | None, flag("N", "(default: as the name says, or 1)")] = None
    mesh: Annotated[str, flag("data=2,model=4|auto", "(default: auto)")] = "auto"
    dim: int = 64
    layers: int = 3
    batch_size: int = 2048
    negatives: int = 256
    sampling: Sampling = "interactions"
    no_compile: Switch = False
    json: Switch = False

    def run(self) -> int:
        workload = Workload(
            users=self.users,
            items=self.items,
            edges=self.edges,
            dim=self.dim,
            layers=self.layers,
            batch_size=self.batch_size,
            negatives=self.negatives,
            sampling=self.sampling,
        )
        devices = accelerator_of(self.accelerator, self.devices)
        if not self.no_compile and devices.kind.compiles:
            say(f"compiling the step for {devices.name} …")
        made = plan(
            workload,
            self.accelerator,
            devices=self.devices,
            mesh=self.mesh,
            compiled=not self.no_compile,
        )
        if self.json:
            print(json_text.dumps(made.as_dict(), indent=2))
        else:
            _print_plan(made)
        return 0


def _print_plan(made: Planned) -> None:
    console, found, devices = results(), made.estimate, made.devices
    kind, work, program = devices.kind, made.workload, made.program
    console.print(
        facts(
            [
                ("graph", f"{work.users:,} users, {work.items:,} items, {work.edges:,} edges"),
                (
                    "model",
                    f"LightGCN, D = {work.dim}, K = {work.layers}, batch {work.batch_size:,}",
                ),
                ("devices", f"{devices.count} × {kind.name}, mesh {made.mesh[0]} × {made.mesh[1]}"),
                ("bandwidths", kind.source),
                ("memory", f"{in_words(made.memory)} of {in_words(kind.memory)} a device"),
                ("moved a step", f"{in_words(found.moved)} a device, in its own memory"),
                (
                    "received a step",
                    f"{in_words(sum(made.received.values()))} a device; {found.exchange} rows",
                ),
                *_times(made),
            ]
        )
    )
    made_of = None if program is None else program.executable
    rows = [(name, in_words(size), "") for name, size in found.memory.items()]
    in_program = "" if made_of is None else in_words(made_of.peak_bytes)
    rows.append(("the step's arguments, temporaries", in_words(found.in_program), in_program))
    rows.append(("in all", in_words(found.total), "" if program is None else in_words(made.memory)))
    columns = ("memory a device", "by formula", "compiled")
    console.print(table(columns, rows, numbers=columns[1:]))
    read = None if program is None else program.received
    kinds = list(dict.fromkeys((*found.received, *made.received)))
    rows = [
        (
            name,
            in_words(found.received.get(name, 0)),
            "" if read is None else in_words(read.get(name, 0)),
        )
        for name in kinds
    ]
    columns = ("received a step", *columns[1:])
    console.print(table(columns, rows, numbers=columns[1:]))
    if made_of is not None:
        callbacks = made_of.host_callbacks or "no"
        console.print(f"{callbacks} host callbacks; compiled in {made_of.compile_seconds:.0f} s")
    if made.note:
        what = "Not compiled" if program is None else "Not read"
        console.print(f"{what}: {made.note}.")
    if made.fits:
        console.print("It fits.")
    else:
        console.print("It does not fit:")
        for line in made.advice:
            console.print(f"  {line}")


def _times(made: Planned) -> list[tuple[str, str]]:
    seconds, steps = made.seconds, made.workload.steps
    if seconds is None:
        return [("an epoch", f"{steps:,} steps")]
    step = sum(seconds.values())
    return [
        (
            "a step",
            f"at least {seconds_in_words(step)}: {seconds_in_words(seconds['memory'])} in memory, "
            f"{seconds_in_words(seconds['links'])} on links",
        ),
        ("an epoch", f"{steps:,} steps, at least {seconds_in_words(step * steps)}"),
    ]


def seconds_in_words(value: float) -> str:
    """A duration as people write it, ``33.5 h``.

    Args:
        value: seconds.
    """
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if value >= 2 * size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms"
