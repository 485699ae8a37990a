"""Memory, traffic and time of a training step, by formula and as compiled for the devices.

On several devices each takes its part of the pairs and a share of the negatives, whose vectors all
devices get; features and neighbours lie whole on each device, or in shares of their rows; gradients
are summed. The step that is compiled is that of ``train``.

By formula a batch is the usual one. The program has room for the largest batch that there can be:
XLA reserves that of the largest branch.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax

from lightgcn_jax.errors import InputError
from lightgcn_jax.memory import in_words
from lightgcn_jax.planning.plan import mesh_on
from lightgcn_jax.planning.program import StepProgram, compile_program
from lightgcn_jax.roofline.accelerators import HERE, Devices, accelerator_of
from lightgcn_jax.roofline.hlo import Executable, compile_executable
from lightgcn_jax.roofline.targets import ExceedsMemoryError, NoCompilerError, find_target
from lightgcn_jax.sharding.mesh import DATA, MODEL, mesh_sizes
from lightgcn_jax.sharding.rows import asked_at_once
from pinsage_jax.planning.workload import Workload
from pinsage_jax.training.division import SHARE_FOR_TABLES, Division
from pinsage_jax.training.epochs import make_chunk

_NUMBER = 4
# Devices are doubled up to here in the search for enough of them.
_MOST_DEVICES = 4096


@dataclasses.dataclass(frozen=True)
class Plan:
    """What :func:`plan` found.

    Attributes:
        workload: the sizes.
        devices: what it would run on.
        mesh: sizes of the axes data and model; tables lie in shares where the latter is above 1.
        memory: bytes a device, by what they hold.
        received: bytes that a device gets from others in a usual step, by the kind of collective.
        received_at_most: likewise in a step with the largest batch, for which there is room.
        moved: bytes that a device reads and writes in its own memory in a step.
        operations: multiplications and additions of a device in a step.
        host_bytes: of the graph that is walked, on the host.
        program: what was compiled of the step; None where nothing was.
        note: why nothing was compiled; None where the step was.
        refused: whether the compiler says that it needs more than there is.
        would_fit: devices that would do, by formula; None where these do, or no number would.
    """

    workload: Workload
    devices: Devices
    mesh: tuple[int, int]
    memory: dict[str, int]
    received: dict[str, int]
    received_at_most: dict[str, int]
    moved: int
    operations: float
    host_bytes: int
    program: StepProgram | None
    note: str | None
    refused: bool
    would_fit: int | None = None

    @property
    def executable(self) -> Executable | None:
        """The compiled step."""
        return None if self.program is None else self.program.executable

    @property
    def shared_out(self) -> bool:
        """Whether features and neighbours lie in shares on the devices."""
        return self.mesh[1] > 1

    @property
    def total(self) -> int:
        """Bytes of a device by formula."""
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        """Whether a device has the memory: by the program, or else by formula."""
        made = self.executable
        known = self.total if made is None else made.peak_bytes
        return not self.refused and known <= self.devices.kind.memory

    @property
    def advice(self) -> list[str]:
        """What would make it fit; nothing where it does."""
        if self.fits:
            return []
        largest = sorted(self.memory.items(), key=lambda part: -part[1])[:3]
        said = ["most of it: " + ", ".join(f"{name} {in_words(size)}" for name, size in largest)]
        in_batch = self.memory["features of the largest batch"]
        if in_batch > self.devices.kind.memory / 2:
            said.append("a smaller --batch-size or --neighbors makes the largest batch smaller")
        if self.would_fit is not None:
            said.append(f"would fit {self.would_fit} devices, by formula")
        tables = self.memory["features"] + self.memory["neighbours"]
        if tables > self.devices.kind.memory / 2 and self.devices.count == 1:
            said.append("train --tables host keeps features and neighbours in the host's memory")
        return said

    @property
    def seconds(self) -> dict[str, float] | None:
        """A step's least seconds: in memory or in arithmetic, and on links; None where no
        bandwidth is published."""
        kind = self.devices.kind
        if kind.memory_bandwidth is None or kind.operations is None:
            return None
        own = max(self.moved / kind.memory_bandwidth, self.operations / kind.operations)
        links = sum(self.devices.seconds(*one) or 0.0 for one in self.received.items())
        return {"device": own, "links": links}

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON."""
        made, seconds = self.program, self.seconds
        program = None
        if made is not None:
            found = made.collectives
            program = dataclasses.asdict(made.executable)
            program["collectives"] = found and [dataclasses.asdict(one) for one in found]
        return {
            "workload": dataclasses.asdict(self.workload),
            "accelerator": dataclasses.asdict(self.devices.kind),
            "devices": self.devices.count,
            "mesh": dict(zip((DATA, MODEL), self.mesh, strict=True)),
            "fits": self.fits,
            "advice": self.advice,
            "memory_by_formula": self.memory,
            "shared_out": self.shared_out,
            "received_bytes": self.received,
            "received_bytes_at_most": self.received_at_most,
            "moved_bytes": self.moved,
            "operations": self.operations,
            "host_bytes": self.host_bytes,
            "step_seconds": seconds and seconds | {"in_all": sum(seconds.values())},
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
        accelerator: as :func:`lightgcn_jax.roofline.accelerators.accelerator_of` takes it.
        devices: how many, where the name does not say.
        mesh: as ``train`` takes it; ``auto`` decides as it does there.
        compiled: compile the step, for a TPU or for the devices here.

    Returns:
        The plan.

    Raises:
        InputError: a name or a number does not fit, or libtpu knows no such slice.
    """
    of = accelerator_of(accelerator, devices)
    sizes = _sizes(workload, of, mesh)
    made = _by_formula(workload, of, sizes)
    if compiled:
        program, note, refused = _compiled(workload, of, sizes)
        made = dataclasses.replace(made, program=program, note=note, refused=refused)
    if made.fits:
        return made
    count = 2 * of.count
    while count <= min(_MOST_DEVICES, of.kind.near):
        more = Devices(of.kind, (count,))
        if _by_formula(workload, more, _sizes(workload, more, "auto")).fits:
            return dataclasses.replace(made, would_fit=count)
        count *= 2
    return made


def _sizes(workload: Workload, devices: Devices, mesh: str) -> tuple[int, int]:
    """The sizes of the axes data and model, as training chooses them."""
    if mesh != "auto":
        sizes = mesh_sizes(mesh, devices.count)
        if math.prod(sizes) != devices.count:
            raise InputError(
                f"mesh: expected all {devices.count} devices, got {sizes[0]} × {sizes[1]}"
            )
        return sizes
    arrays = workload.arrays()
    tables = _bytes((arrays.features, arrays.table, arrays.hard_pool))
    whole = tables <= SHARE_FOR_TABLES * devices.kind.memory
    return (devices.count, 1) if whole else (1, devices.count)


def _by_formula(size: Workload, of: Devices, mesh: tuple[int, int]) -> Plan:
    parts, shards = of.count, mesh[1]
    arrays, params = size.arrays(), _bytes(size.state().params)
    features, neighbours = _bytes(arrays.features), _bytes(arrays.table)
    row = _NUMBER * (size.width + size.structure)
    most, usual = list(size.most(parts)), size.usual(parts)
    memory = {
        "parameters, moments, gradient": 4 * params,
        "features": features // shards,
        "neighbours": neighbours // shards,
        "pools of hard negatives": _bytes(arrays.hard_pool) // shards,
        "which items may be drawn": size.items * _NUMBER,
        "which items lose their contexts": size.items if size.config.drop_contexts else 0,
        "marks and places of a batch's items": _finding(size, most, parts),
        "features of the largest batch": most[0] * row,
        "messages and vectors": _activations(size, most),
    }
    moved = 3 * usual[0] * row + 2 * _activations(size, usual) + 12 * params
    moved += 2 * _finding(size, usual, parts)
    width = size.width + size.structure
    return Plan(
        size,
        of,
        mesh,
        memory,
        _received(size, usual, parts, shards, params),
        _received(size, most, parts, shards, params),
        moved,
        6.0 * usual[0] * width * size.dim + 6.0 * sum(usual) * 3 * size.dim**2,
        2 * size.memberships * _NUMBER + 3 * size.items * _NUMBER,
        None,
        "by formula alone",
        False,
    )


def _received(
    size: Workload, nodes: list[int], parts: int, shards: int, params: int
) -> dict[str, int]:
    """Bytes that a device gets from others: sums of the gradient, vectors of shared negatives and
    their slopes, and rows of tables that lie in shares."""
    if parts == 1:
        return {}
    vectors = -(-size.negatives // parts) * (size.dim + size.structure) * _NUMBER * (parts - 1)
    received = {
        "all-reduce": 2 * params * (parts - 1) // parts,
        "all-gather": vectors,
        "reduce-scatter": vectors,
    }
    if shards > 1:
        near = size.neighbors
        # Neighbours are read to find a batch's items and, with their weights, to lay them out.
        wanted = [(rows, near) for rows in nodes[1:] for _ in range(3)]
        wanted += [(nodes[0], size.width), (nodes[0], size.structure)]
        wanted += [(size.batch_size, size.config.hard_pool)] if size.hard else []
        received["all-to-all"] = sum(_looked_up(*one, shards) for one in wanted if one[1])
    return received


def _looked_up(rows: int, width: int, shards: int) -> int:
    """Bytes that a device gets for rows of a table in shares: what others ask it for, and what it
    asked them for."""
    most = asked_at_once(rows, shards, width * _NUMBER)
    turns = math.ceil(rows / shards / most)
    return turns * most * (shards - 1) * (width + 1) * _NUMBER


def _finding(size: Workload, nodes: list[int], parts: int) -> int:
    """Bytes by which the layers of a batch are found: marks and places of all items, or, of a part
    of it, its items and their neighbours, to be sorted."""
    if parts == 1:
        return (size.layers + 1) * 5 * size.items
    return 3 * _NUMBER * sum(rows * (size.neighbors + 1) for rows in nodes[1:])


def _activations(size: Workload, sizes: list[int]) -> int:
    """What is kept for the backward pass: each layer's vectors and messages, and for its rows the
    messages of their neighbours."""
    below, above = sizes[:-1], sizes[1:]
    vectors = 2 * sum(sizes) + sum(below)
    gathered = max(above, default=0) * size.neighbors
    return _NUMBER * size.dim * (vectors + gathered) + 8 * size.neighbors * sum(above)


def _compiled(
    workload: Workload, devices: Devices, sizes: tuple[int, int]
) -> tuple[StepProgram | None, str | None, bool]:
    """The step as ``train`` makes it; or why there is none, and whether the compiler refused it."""
    if not devices.kind.compiles:
        return None, "XLA compiles for a GPU only beside one", False
    made = workload.model, workload.optimizer, workload.config, (workload.most(devices.count),)
    try:
        if devices.count > 1:
            mesh = mesh_on(devices, sizes)
            given = workload.step_arguments(mesh)
            chunk = make_chunk(*made, Division(mesh))
            return compile_program(chunk, given, mesh, devices.name), None, False
        here = devices.kind.name == HERE
        # One chip of a slice: libtpu names slices alone.
        name = None if here else f"tpu:{devices.kind.name}:{_SLICES[devices.kind.torus]}"
        given = find_target(name), make_chunk(*made), *workload.step_arguments()
        return StepProgram(compile_executable(*given)[1], ()), None, False
    except ExceedsMemoryError as error:
        return None, f"the compiler refuses it: {error}", True
    except NoCompilerError:
        return None, "compiling for a TPU needs libtpu; install the extra tpu", False


_SLICES = {2: "2x2", 3: "2x2x1"}


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
