"""The command plan: what training an encoder would take of an accelerator."""

from __future__ import annotations

import json as json_text
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from lightgcn_jax.cli.console import facts, results, say, table
from lightgcn_jax.cli.plan import seconds_in_words
from lightgcn_jax.cli.runs import Switch
from lightgcn_jax.cli.settings import flag
from lightgcn_jax.memory import in_words
from lightgcn_jax.roofline.accelerators import accelerator_of
from pinsage_jax.planning.plan import Plan as Planned
from pinsage_jax.planning.plan import plan
from pinsage_jax.planning.workload import Workload


@dataclass(frozen=True)
class Plan:
    """Say what a training step on so many items takes of an accelerator, without either.

    Memory, traffic and time are printed by formula. For TPUs, which need not be here, and for the
    devices that are, the step of `train` is compiled too, and its memory and what devices exchange
    are read from the program. Times are those of the published bandwidths, which no program
    reaches.

    Attributes:
        items: items R.
        memberships: places of items in contexts.
        width: numbers that describe an item.
        dim: dimensions D of a vector.
        layers: layers K.
        neighbors: neighbours T of an item.
        structure: columns that tell where an item stands in the graph.
        batch_size: pairs of a step.
        negatives: negatives that a batch shares.
        hard: hard negatives of a query.
        accelerator: `h200`, `v5e`, `v5p`, `v6e`, or `k80`, half a board of 2014; with the shape of
            a slice, `v6e:16x16`, or a number, `h200:8`; `here` for the devices that JAX sees.
        devices: how many, where the accelerator's name does not say.
        mesh: as `train` takes it; all devices.
        no_compile: do not compile the step.
        json: print JSON.
    """

    items: Annotated[int, flag("N")]
    memberships: Annotated[int, flag("N")]
    accelerator: Annotated[str, flag("NAME[:SHAPE]")]
    devices: Annotated[int | None, flag("N", "(default: as the name says, or 1)")] = None
    mesh: Annotated[str, flag("data=2,model=4|auto", "(default: auto)")] = "auto"
    width: int = 256
    dim: int = 64
    layers: int = 2
    neighbors: int = 50
    structure: int = 256
    batch_size: int = 1024
    negatives: int = 500
    hard: int = 0
    no_compile: Switch = False
    json: Switch = False

    def run(self) -> int:
        workload = Workload(
            items=self.items,
            memberships=self.memberships,
            width=self.width,
            dim=self.dim,
            layers=self.layers,
            neighbors=self.neighbors,
            structure=self.structure,
            batch_size=self.batch_size,
            negatives=self.negatives,
            hard=self.hard,
        )
        devices = accelerator_of(self.accelerator, self.devices)
        if not self.no_compile and devices.kind.compiles:
            say(f"compiling the step for {devices.count} × {devices.kind.name} …")
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
    console, work, kind = results(), made.workload, made.devices.kind
    seconds, lies = made.seconds, "in shares" if made.shared_out else "on each device"
    lines = [
        ("items", f"{work.items:,}, {work.width} numbers each, {work.memberships:,} memberships"),
        ("model", f"D = {work.dim}, K = {work.layers}, T = {work.neighbors}"),
        ("a step", f"{work.batch_size:,} pairs, {work.negatives} negatives, {work.hard} hard ones"),
        ("devices", f"{made.devices.count} × {kind.name}, mesh {made.mesh[0]} × {made.mesh[1]}"),
        ("features, neighbours", f"lie {lies}"),
        ("bandwidths", kind.source),
        ("moved a step", f"{in_words(made.moved)} a device, in its own memory"),
        ("received a step", f"{_in_all(made.received)} a device, usually"),
        ("at most", f"{_in_all(made.received_at_most)}, with the largest batch"),
        ("the graph, on the host", in_words(made.host_bytes)),
    ]
    if seconds is not None:
        least = seconds_in_words(sum(seconds.values()))
        parts = f"{seconds_in_words(seconds['device'])} on the device"
        parts += f", {seconds_in_words(seconds['links'])} on links"
        lines.append(("seconds a step", f"at least {least}: {parts}"))
    console.print(facts(lines))
    peak = "" if made.executable is None else in_words(made.executable.peak_bytes)
    rows = [(name, in_words(size), "") for name, size in made.memory.items()]
    rows.append(("in all", in_words(made.total), peak))
    columns = ("memory a device", "by formula", "compiled")
    console.print(table(columns, rows, numbers=columns[1:]))
    if made.program is not None and made.program.received:
        console.print(f"The program receives {_in_all(made.program.received)} a device and step.")
    if made.note:
        console.print(f"Not compiled: {made.note}.")
    room = in_words(kind.memory)
    console.print(f"It fits {room}." if made.fits else f"It does not fit {room}:")
    for line in made.advice:
        console.print(f"  {line}")


def _in_all(received: Mapping[str, int]) -> str:
    """Bytes by the kind of collective, and their sum."""
    parts = ", ".join(f"{name} {in_words(size)}" for name, size in received.items())
    return in_words(sum(received.values())) + (f" ({parts})" if parts else "")
