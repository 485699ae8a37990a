"""Memory, traffic and time of a step by formula, from the arrays that a run would make."""

from __future__ import annotations

import dataclasses
from typing import Any

from jax.sharding import AbstractMesh

from lightgcn_jax.diffusion.segment import MESSAGE_BYTES
from lightgcn_jax.planning.program import step_arguments
from lightgcn_jax.planning.workload import Workload, bytes_a_device
from lightgcn_jax.roofline.accelerators import Devices
from lightgcn_jax.sharding import ShardedStorage, ShardSizes
from lightgcn_jax.sharding.mesh import DATA, MODEL

_FLOAT = 4
# The gradient, and what an application reads and writes beside it.
_TABLES_IN_STEP = 3


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a step takes on each device.

    Attributes:
        memory: bytes, by what they hold.
        held_beside: those of ``memory`` that are held while a step runs, and are no part of it.
        received: bytes that a device gets from others in a step, by the kind of collective.
        moved: bytes that a device reads and writes in its own memory in a step, with a row of the
            table read for every entry (see :mod:`lightgcn_jax.roofline.work`).
        exchange: ``needed`` or ``gather``, as the storage chooses.
    """

    memory: dict[str, int]
    held_beside: tuple[str, ...]
    received: dict[str, int]
    moved: int
    exchange: str

    @property
    def total(self) -> int:
        """Bytes of a device's memory in all."""
        return sum(self.memory.values())

    @property
    def in_program(self) -> int:
        """Bytes that the compiled step takes: its arguments and its temporaries."""
        return self.total - sum(self.memory[name] for name in self.held_beside)

    def seconds(
        self, devices: Devices, received: dict[str, int] | None = None
    ) -> dict[str, float] | None:
        """How long a step takes at the published bandwidths: memory and links one after the other.

        Args:
            devices: what it runs on.
            received: in place of the formula's, for instance that of the compiled program.

        Returns:
            The seconds of both; None where no bandwidths are published.
        """
        if devices.kind.memory_bandwidth is None:
            return None
        links = [devices.seconds(*one) for one in (received or self.received).items()]
        return {
            "memory": self.moved / devices.kind.memory_bandwidth,
            "links": sum(one for one in links if one is not None),
        }


def abstract_mesh(sizes: tuple[int, int]) -> AbstractMesh:
    """A mesh of no devices in particular.

    Args:
        sizes: of the axes data and model.
    """
    return AbstractMesh(sizes, (DATA, MODEL))


def estimate(
    workload: Workload, mesh: tuple[int, int], sizes: ShardSizes | None = None
) -> Estimate:
    """What a step takes on each device of a mesh.

    Args:
        workload: the sizes.
        mesh: sizes of the axes data and model.
        sizes: of the shards' arrays, where a graph is known.
    """
    layout = workload.layout(abstract_mesh(mesh))
    states, _, shuffle, *_, inputs = step_arguments(workload, layout, sizes)
    storage: Any = inputs.operator.storage
    assert isinstance(storage, ShardedStorage)
    row = _FLOAT * workload.dim
    table = layout.rows_a_shard * row
    entries, width = storage.local.senders.shape[1], storage.local.shape[1]
    memory = {
        "tables and Adam's moments": bytes_a_device(states),
        "the best epoch's table": table,
        "rows of the matrix": bytes_a_device(storage.local),
        "interactions, for draws and masks": bytes_a_device(inputs.graph),
        "order of the epoch": bytes_a_device(shuffle),
        "users to draw from": bytes_a_device(inputs.users_with_items),
        "rows sent and received": bytes_a_device(storage.sent or ()) + 2 * width * row,
        "messages of a block of edges": min(entries * row, MESSAGE_BYTES),
        "gradient and sums": _TABLES_IN_STEP * table,
        "the batch": _batch(workload, mesh[0]),
    }
    applications = 2 * workload.layers
    own = entries * (row + 3 * _FLOAT) + table + 3 * width * row
    return Estimate(
        memory,
        ("the best epoch's table", "users to draw from"),
        _received(workload, mesh, storage, table),
        applications * own + 12 * table,
        storage.exchange,
    )


def _batch(workload: Workload, data: int) -> int:
    """Bytes of a batch on a device: scores, rows of each layer, and each user's place in it."""
    size = workload.batch_size
    own = size // data if size % data == 0 else size
    scores = 3 * own * workload.negatives * _FLOAT
    rows = (workload.layers + 2) * _rows_of_batch(workload) * workload.dim * _FLOAT
    return scores + rows + workload.users * _FLOAT


def _received(
    workload: Workload, mesh: tuple[int, int], storage: ShardedStorage, table: int
) -> dict[str, int]:
    """Rows that travel in each application; rows of the batch, summed over the shards, each layer's
    and those that the L2 penalty reads; and as many gradients, summed over the batch's parts."""
    data, shards = mesh
    sums = workload.layers + 2
    rows = _rows_of_batch(workload) * workload.dim * _FLOAT
    part = rows // data if workload.batch_size % data == 0 else rows
    applied = 2 * workload.layers * storage.bytes_received(workload.dim)
    kind = "all-to-all" if storage.exchange == "needed" else "all-gather"
    summed = sums * (_in_a_ring(part, shards) + _in_a_ring(table, data))
    return {kind: applied, "all-reduce": summed}


def _in_a_ring(size: int, group: int) -> int:
    """Bytes that each of a group gets while as many bytes of each are added up."""
    return 2 * size * (group - 1) // group


def _rows_of_batch(workload: Workload) -> int:
    return 2 * workload.batch_size + workload.negatives
