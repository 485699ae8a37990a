"""What a run would take of an accelerator, whether it fits, and what would make it fit."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from lightgcn_jax.errors import InputError
from lightgcn_jax.memory import in_words
from lightgcn_jax.planning.estimate import Estimate, estimate
from lightgcn_jax.planning.program import StepProgram, compile_step
from lightgcn_jax.planning.workload import Workload
from lightgcn_jax.roofline.accelerators import HERE, Devices, accelerator_of
from lightgcn_jax.roofline.targets import ExceedsMemoryError, NoCompilerError, topology_devices
from lightgcn_jax.sharding.mesh import DATA, MODEL, mesh_sizes

# Slices are doubled up to here in the search for one that is large enough.
_MOST_DEVICES = 4096


@dataclasses.dataclass(frozen=True)
class Plan:
    """What :func:`plan` found.

    Attributes:
        workload: the sizes.
        devices: what it would run on.
        mesh: sizes of the axes data and model.
        estimate: by formula.
        program: what was compiled of the step; None where nothing was, or where it does not fit.
        note: why nothing was compiled or read; None where the step was.
        advice: what would make it fit; empty where it fits.
    """

    workload: Workload
    devices: Devices
    mesh: tuple[int, int]
    estimate: Estimate
    program: StepProgram | None
    note: str | None
    advice: tuple[str, ...]

    @property
    def received(self) -> dict[str, int]:
        """Bytes that a device gets in a step: of the program, or else by formula."""
        read = None if self.program is None else self.program.received
        return self.estimate.received if read is None else read

    @property
    def memory(self) -> int:
        """Bytes of a device: of the program and what is held beside it, or else by formula."""
        found = self.estimate
        if self.program is None:
            return found.total
        return self.program.executable.peak_bytes + found.total - found.in_program

    @property
    def fits(self) -> bool:
        """Whether a device has the memory."""
        return not self.advice

    @property
    def seconds(self) -> dict[str, float] | None:
        """A step's seconds in memory and on links at the published bandwidths; None without any."""
        return self.estimate.seconds(self.devices, self.received)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON."""
        found, seconds = self.estimate, self.seconds
        program = None
        if self.program is not None:
            made, collectives = self.program.executable, self.program.collectives
            program = {
                "argument_bytes": made.argument_bytes,
                "temporary_bytes": made.temporary_bytes,
                "output_bytes": made.output_bytes,
                "host_callbacks": made.host_callbacks,
                "compile_seconds": round(made.compile_seconds, 1),
                "collectives": collectives and [dataclasses.asdict(one) for one in collectives],
            }
        return {
            "workload": dataclasses.asdict(self.workload),
            "accelerator": dataclasses.asdict(self.devices.kind),
            "devices": self.devices.count,
            "topology": self.devices.topology,
            "mesh": dict(zip((DATA, MODEL), self.mesh, strict=True)),
            "fits": self.fits,
            "advice": list(self.advice),
            "memory_bytes": self.memory,
            "memory_by_formula": found.memory,
            "moved_bytes": found.moved,
            "exchange": found.exchange,
            "received_bytes": self.received,
            "received_by_formula": found.received,
            "step_seconds": seconds and seconds | {"in_all": sum(seconds.values())},
            "steps_an_epoch": self.workload.steps,
            "program": program,
            "not_compiled": self.note,
        }


def plan(
    workload: Workload,
    accelerator: str,
    *,
    devices: int | None = None,
    mesh: str = "auto",
    compiled: bool = True,
) -> Plan:
    """Say what each step of a run takes, before anything is paid for.

    Args:
        workload: the sizes.
        accelerator: as :func:`accelerator_of` takes it.
        devices: how many, where the name does not say.
        mesh: as :func:`lightgcn_jax.sharding.mesh_of` takes it.
        compiled: compile the step, for a TPU or for the devices here; else the formula has to do.

    Returns:
        The plan.

    Raises:
        InputError: a name or a number does not fit, or libtpu knows no such slice.
    """
    of = accelerator_of(accelerator, devices)
    sizes = mesh_sizes(mesh, of.count)
    if sizes[0] * sizes[1] != of.count:
        raise InputError(f"mesh: expected all {of.count} devices, got {sizes[0]} × {sizes[1]}")
    found, program, note, refused = estimate(workload, sizes), None, None, False
    if not compiled or not of.kind.compiles:
        note = "by formula alone" if not compiled else "XLA compiles for a GPU only beside one"
    else:
        try:
            program = _compiled(workload, of, sizes)
            if program.collectives is None:
                note = "its text cannot be read by this JAX: install the libtpu that jax[tpu] names"
        except ExceedsMemoryError as error:
            note, refused = f"the compiler refuses it: {error}", True
        except NoCompilerError:
            note = "compiling for a TPU needs libtpu; install the extra tpu"
    made = Plan(workload, of, sizes, found, program, note, ())
    if refused or made.memory > of.kind.memory:
        made = dataclasses.replace(made, advice=tuple(_advice(made)))
    return made


def _compiled(workload: Workload, devices: Devices, sizes: tuple[int, int]) -> StepProgram:
    return compile_step(workload, mesh_on(devices, sizes), devices.name)


def mesh_on(devices: Devices, sizes: tuple[int, int]) -> Mesh:
    """A mesh of devices that are here, or of a slice that need not be.

    Args:
        devices: what they are.
        sizes: of the axes data and model.

    Raises:
        NoCompilerError: libtpu is missing.
        InputError: it knows no such slice.
    """
    is_here = devices.kind.name == HERE
    found = np.array(jax.devices() if is_here else topology_devices(devices.name))
    if found.size < devices.count:
        raise InputError(
            f"accelerator: expected a slice of {devices.count} devices, {devices.name} has "
            f"{found.size}"
        )
    return Mesh(found[: devices.count].reshape(sizes), (DATA, MODEL))


def _advice(made: Plan) -> list[str]:
    """What is too large, and which number of devices or which setting would do."""
    kind, workload = made.devices.kind, made.workload
    parts = sorted(made.estimate.memory.items(), key=lambda part: -part[1])[:3]
    largest = ", ".join(f"{name} {in_words(size)}" for name, size in parts)
    said = [
        f"takes {in_words(made.memory)} of the {in_words(kind.memory)} of a device; most of it: "
        f"{largest}"
    ]
    if made.memory <= kind.memory:
        said = [
            f"the formula says {in_words(made.memory)}, the compiler needs more than the "
            f"{in_words(kind.memory)} of a device; most of it: {largest}"
        ]
    on_each = sum(
        size
        for name, size in made.estimate.memory.items()
        if name in ("interactions, for draws and masks", "order of the epoch", "users to draw from")
    )
    if on_each > kind.memory:
        said.append(
            f"every device holds the interactions, {in_words(on_each)}: no number of devices helps"
        )
    else:
        count = made.devices.count * 2
        while count <= min(kind.near, _MOST_DEVICES):
            if estimate(workload, (1, count)).total <= kind.memory:
                said.append(f"would fit {count} devices, by formula")
                break
            count *= 2
    if workload.sampling == "interactions":
        said.append(
            f"--sampling users saves {in_words(4 * workload.edges)}, the order of the epoch"
        )
    if workload.dim > 1:
        half = dataclasses.replace(workload, dim=workload.dim // 2)
        total = estimate(half, made.mesh).total
        said.append(f"--dim {half.dim} takes {in_words(total)}, by formula")
    return said
