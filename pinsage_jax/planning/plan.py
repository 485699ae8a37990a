"""Memory, traffic and time of a training step, by formula and as compiled for one device.

What ``train`` runs today is one device's step. The figures of several devices are those of a
data-parallel step that is not there yet: each device takes its part of the pairs and a share of the
negatives, whose vectors all devices see; features and neighbours are on each device where there is
room, else a share on each, and the rows of a batch come from the others; gradients are summed.

The sizes of a batch's layers are those of neighbours drawn uniformly, which repeat least. The
program of one device has room for the largest batch that there can be, whatever the usual one is:
XLA reserves that of the largest branch.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from lightgcn_jax.fields import Checked, setting, whole
from lightgcn_jax.memory import in_words
from lightgcn_jax.roofline.accelerators import HERE, Devices, accelerator_of
from lightgcn_jax.roofline.hlo import Executable, compile_executable
from lightgcn_jax.roofline.targets import ExceedsMemoryError, NoCompilerError, find_target
from pinsage_jax.config import PinSageConfig
from pinsage_jax.encoder.blocks import Capacities, bounds
from pinsage_jax.encoder.pinsage import STRUCTURE, PinSage, init_params, make_model
from pinsage_jax.features.inputs import Input
from pinsage_jax.graph.neighborhoods import NeighborTable
from pinsage_jax.training.batch import Batch, ItemArrays, num_targets
from pinsage_jax.training.epochs import make_chunk
from pinsage_jax.training.step import TrainState
from pinsage_jax.training.trainer import make_optimizer

_NUMBER = 4
_FEATURES = "features"


@dataclasses.dataclass(frozen=True)
class Workload(Checked):
    """A run, in sizes.

    Attributes:
        items: R.
        memberships: E, places of items in contexts.
        width: F, numbers that describe an item.
        dim: D.
        layers: K.
        neighbors: T.
        structure: columns of the input that tells where an item stands.
        batch_size: B, pairs of a step.
        negatives: M, shared by a batch.
        hard: hard negatives of a query.

    Raises:
        InputError: a number is not whole, too small, or more than 32 bits hold.
    """

    items: int = setting(1, whole(1))
    memberships: int = setting(1, whole(1))
    width: int = setting(256, whole(1))
    dim: int = setting(64, whole(1))
    layers: int = setting(2, whole(1))
    neighbors: int = setting(50, whole(1))
    structure: int = setting(256, whole(0))
    batch_size: int = setting(1024, whole(1))
    negatives: int = setting(500, whole(1))
    hard: int = setting(0, whole(0))

    @cached_property
    def config(self) -> PinSageConfig:
        """The settings of such a run."""
        return PinSageConfig(
            dim=self.dim,
            layers=self.layers,
            neighbors=self.neighbors,
            structure=self.structure,
            batch_size=self.batch_size,
            negatives=self.negatives,
            hard_cap=self.hard,
            curriculum="all" if self.hard else "none",
            log_degree=False,
        )

    @property
    def model(self) -> PinSage:
        """The encoder."""
        inputs = (Input.dense(_FEATURES, self.width),)
        if self.structure:
            inputs += (Input.dense(STRUCTURE, self.structure),)
        return make_model(inputs, self.config)

    @property
    def most(self) -> Capacities:
        """Room for every batch of one device."""
        count = num_targets(self.config, 1)
        return bounds(count, self.neighbors, self.layers, self.items)

    def usual(self, parts: int) -> list[int]:
        """Nodes of S_0 … S_K that a device meets, when a batch is divided.

        Args:
            parts: devices.
        """
        own = -(-self.batch_size // parts) * (2 + self.hard) + -(-self.negatives // parts)
        sizes, new = [_distinct(self.items, own)], _distinct(self.items, own)
        for _ in range(self.layers):
            # The neighbours of what came before the last layer are in it already.
            rest = 1 - sizes[-1] / self.items
            new = math.ceil(_distinct(self.items, new * self.neighbors) * rest)
            sizes.append(sizes[-1] + new)
        return sizes[::-1]

    def state(self) -> TrainState:
        """Shapes and types of parameters and moments."""
        optimizer = make_optimizer(self.config, 100)

        def start(key: Any) -> TrainState:
            params = init_params(key, self.model)
            return TrainState(params, optimizer.init(params))

        return jax.eval_shape(start, jax.random.key(0))

    def arrays(self) -> ItemArrays:
        """Shapes and types of what a step reads of the items."""

        def array(kind: Any, *shape: int) -> Any:
            return jax.ShapeDtypeStruct(shape, kind)

        features = {
            one.name: array(jnp.float32, self.items, one.width) for one in self.model.inputs
        }
        ids = array(jnp.int32, self.items, self.neighbors)
        table = NeighborTable(ids=ids, weights=array(jnp.float32, *ids.shape))
        pool = array(jnp.int32, self.items, self.config.hard_pool) if self.hard else None
        return ItemArrays(features, table, array(jnp.int32, self.items), hard_pool=pool)


def _distinct(items: int, draws: int) -> int:
    """Distinct items among so many uniform draws, on average."""
    return math.ceil(items * -math.expm1(-draws / items))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What :func:`plan` found.

    Attributes:
        workload: the sizes.
        devices: what it would run on.
        memory: bytes a device, by what they hold.
        shared_out: whether features and neighbours lie in shares on the devices.
        received: bytes that a device gets from others in a step.
        moved: bytes that a device reads and writes in its own memory in a step.
        operations: multiplications and additions of a device in a step.
        host_bytes: of the graph that is walked, on the host.
        executable: the step compiled for one device; None where nothing was.
        note: why nothing was compiled; None where the step was.
        refused: whether the compiler says that it needs more than there is.
    """

    workload: Workload
    devices: Devices
    memory: dict[str, int]
    shared_out: bool
    received: int
    moved: int
    operations: float
    host_bytes: int
    executable: Executable | None
    note: str | None
    refused: bool

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
        if self.memory["features"] + self.memory["neighbours"] > self.devices.kind.memory / 2:
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
        return {"device": own, "links": self.devices.seconds("all-to-all", self.received) or 0.0}

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON."""
        made, seconds = self.executable, self.seconds
        return {
            "workload": dataclasses.asdict(self.workload),
            "accelerator": dataclasses.asdict(self.devices.kind),
            "devices": self.devices.count,
            "several_devices_are_not_there_yet": self.devices.count > 1,
            "fits": self.fits,
            "advice": self.advice,
            "memory_by_formula": self.memory,
            "shared_out": self.shared_out,
            "received_bytes": self.received,
            "moved_bytes": self.moved,
            "operations": self.operations,
            "host_bytes": self.host_bytes,
            "step_seconds": seconds and seconds | {"in_all": sum(seconds.values())},
            "program": None if made is None else dataclasses.asdict(made),
            "not_compiled": self.note,
        }


def plan(
    workload: Workload, accelerator: str, *, devices: int | None = None, compiled: bool = True
) -> Plan:
    """Say what each step of a run takes, before anything is paid for.

    Args:
        workload: the sizes.
        accelerator: as :func:`lightgcn_jax.roofline.accelerators.accelerator_of` takes it.
        devices: how many, where the name does not say.
        compiled: compile the step of one device, for a TPU or for the device here.

    Returns:
        The plan.

    Raises:
        InputError: a name or a number does not fit.
    """
    of = accelerator_of(accelerator, devices)
    parts, size = of.count, workload
    arrays = workload.arrays()
    params = _bytes(workload.state().params)
    features, neighbours = _bytes(arrays.features), _bytes(arrays.table)
    others = 2 * size.items * _NUMBER + _bytes(arrays.hard_pool)
    shared_out = parts > 1 and features + neighbours + others > of.kind.memory / 2
    share = parts if shared_out else 1
    row = _NUMBER * (size.width + size.structure)
    # One device's program has room for the largest batch; a divided one is taken as the usual.
    sizes = list(size.most) if parts == 1 else size.usual(parts)
    memory = {
        "parameters, moments, gradient": 4 * params,
        "features": features // share,
        "neighbours": neighbours // share,
        "which items may be drawn, hard negatives": others // share,
        "marks and places of a batch's items": (size.layers + 1) * 5 * size.items,
        "features of the largest batch": sizes[0] * row,
        "messages and vectors": _activations(size, sizes),
    }
    usual = size.usual(parts)
    rows = usual[0] * row
    received = 0
    if parts > 1:
        received = 2 * params * (parts - 1) // parts + size.negatives * size.dim * _NUMBER
        received += rows * (parts - 1) // parts if shared_out else 0
    moved = 3 * rows + 2 * _activations(size, usual) + 12 * params
    moved += (size.layers + 1) * 10 * size.items
    executable, note, refused = None, "by formula alone", False
    if compiled:
        executable, note, refused = _compiled(workload, of)
    return Plan(
        workload,
        of,
        memory,
        shared_out,
        received,
        moved,
        6.0 * usual[0] * (size.width + size.structure) * size.dim
        + 6.0 * sum(usual) * 3 * size.dim**2,
        2 * size.memberships * _NUMBER + 3 * size.items * _NUMBER,
        executable,
        note,
        refused,
    )


def _activations(size: Workload, sizes: list[int]) -> int:
    """What is kept for the backward pass: each layer's vectors and messages, and for its rows the
    messages of their neighbours."""
    below, above = sizes[:-1], sizes[1:]
    vectors = 2 * sum(sizes) + sum(below)
    gathered = max(above, default=0) * size.neighbors
    return _NUMBER * size.dim * (vectors + gathered) + 8 * size.neighbors * sum(above)


def _compiled(workload: Workload, devices: Devices) -> tuple[Executable | None, str | None, bool]:
    """The step of one device, as ``train`` makes it; or why there is none, and whether the compiler
    refused it."""
    if devices.count > 1:
        why = "train has a step of one device; this is the formula of a data-parallel one"
        return None, why, False
    if not devices.kind.compiles:
        return None, "XLA compiles for a GPU only beside one", False
    size, config = workload.batch_size, workload.config
    optimizer = make_optimizer(config, 100)
    chunk = make_chunk(workload.model, optimizer, config, (workload.most,))
    batch = jax.eval_shape(
        lambda: Batch(
            jnp.zeros((1, size, 1), jnp.int32),
            jnp.zeros((1, size), jnp.int32),
            jnp.ones((1, size), jnp.float32),
        )
    )
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    active = jax.ShapeDtypeStruct((), jnp.int32)
    try:
        here = devices.kind.name == HERE
        # One chip of a slice: libtpu names slices alone.
        target = find_target(
            None if here else f"tpu:{devices.kind.name}:{_SLICES[devices.kind.torus]}"
        )
        given = workload.state(), batch, keys, active, workload.arrays()
        made = compile_executable(target, chunk, *given)[1]
    except ExceedsMemoryError as error:
        return None, f"the compiler refuses it: {error}", True
    except NoCompilerError:
        return None, "compiling for a TPU needs libtpu; install the extra tpu", False
    return made, None, False


_SLICES = {2: "2x2", 3: "2x2x1"}


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
