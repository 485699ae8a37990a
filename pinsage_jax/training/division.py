"""How a batch is divided among the devices of a mesh, and what they tell each other.

Every device takes its rows of the batch, whatever axis of the mesh it stands on: their queries,
positives and hard negatives, and a share of the shared negatives, whose vectors all devices get. It
embeds these in a part of the graph of its own. Sums over the devices make the loss and the gradient
of the whole batch, so a step is that of one device but for the order of sums.

Tables (features, neighbours, pools of hard negatives) lie whole on each device, or in shares of
their rows over the axis ``model`` (:mod:`lightgcn_jax.sharding.rows`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from lightgcn_jax.arrays import Array
from lightgcn_jax.errors import InputError
from lightgcn_jax.memory import device_memory, in_words
from lightgcn_jax.processes.agreement import of_the_first, several
from lightgcn_jax.processes.placing import on_every_device, on_host
from lightgcn_jax.sharding import mesh_of
from lightgcn_jax.sharding.mesh import DATA, MODEL
from lightgcn_jax.sharding.rows import places_of, rows_on
from pinsage_jax.config import PinSageConfig
from pinsage_jax.encoder.blocks import Marks, mark_layers
from pinsage_jax.encoder.sorted_layers import SortedLayers, sort_layers
from pinsage_jax.training.batch import Targets

_Tree = TypeVar("_Tree")
_AUTO = "auto"
SHARE_FOR_TABLES = 0.5
"""Tables of up to this share of a device's memory lie whole on each: a step needs the rest."""


@dataclasses.dataclass(frozen=True)
class Division:
    """A batch on the devices of a mesh, or all of it on one device.

    Attributes:
        mesh: with the axes data and model; None for one device.
    """

    mesh: Mesh | None = None

    @property
    def count(self) -> int:
        """How many devices there are."""
        return 1 if self.mesh is None else self.mesh.size

    @property
    def shares_tables(self) -> bool:
        """Whether rows of tables lie in shares on the devices."""
        return self.mesh is not None and self.mesh.shape[MODEL] > 1

    def part_of(self, rows: int) -> int:
        """How many of so many rows a device takes, those included that fill up.

        Args:
            rows: of all devices.
        """
        return -(-rows // self.count)

    def own(self, rows: Array, fill: Any = 0) -> Array:
        """The rows of this device, within :meth:`each`.

        Args:
            rows: ``[n, …]``, of all devices.
            fill: what fills up the last devices' rows.

        Returns:
            ``[part_of(n), …]``.
        """
        if self.mesh is None:
            return rows
        each = self.part_of(len(rows))
        room = [(0, each * self.count - len(rows)), *[(0, 0)] * (rows.ndim - 1)]
        padded = jnp.pad(rows, room, constant_values=fill)
        return jax.lax.dynamic_slice_in_dim(padded, jax.lax.axis_index((DATA, MODEL)) * each, each)

    def own_targets(self, targets: Targets) -> Targets:
        """The targets of this device: its rows, and its share of the shared negatives.

        Args:
            targets: of the batch.
        """
        return Targets(*(self.own(ids, -1) for ids in targets))

    def everybodys(self, rows: Array, count: int) -> Array:
        """The rows of all devices, on each, within :meth:`each`; the opposite of :meth:`own`.

        Args:
            rows: those of this device.
            count: n, of all devices.
        """
        if self.mesh is None:
            return rows
        return jax.lax.all_gather(rows, (DATA, MODEL), tiled=True)[:count]

    def total(self, tree: _Tree) -> _Tree:
        """Sums over the devices, within :meth:`each`.

        Args:
            tree: arrays of this device.
        """
        return tree if self.mesh is None else jax.lax.psum(tree, (DATA, MODEL))

    def most(self, values: Array) -> Array:
        """The largest values of all devices, within :meth:`each`.

        Args:
            values: those of this device.
        """
        return values if self.mesh is None else jax.lax.pmax(values, (DATA, MODEL))

    @property
    def find_layers(self) -> Callable[..., Marks | SortedLayers]:
        """What finds the layers of a device's targets: by marks on all items, or on a mesh, where a
        device has few of them, by sorting."""
        return mark_layers if self.mesh is None else sort_layers

    def each(self, function: Callable[..., _Tree], *arguments: Any) -> _Tree:
        """What a function gives that every device calls for its part, the same on all of them.

        Args:
            function: takes the arguments; what differs between devices it asks :meth:`own` for.
            arguments: pytrees of arrays and of shares of rows.
        """
        if self.mesh is None:
            return function(*arguments)
        # What the kernels give says nothing of the axes over which it varies.
        divided = jax.shard_map(
            function,
            mesh=self.mesh,
            in_specs=tuple(map(places_of, arguments)),
            out_specs=PartitionSpec(),
            check_vma=False,
        )
        return divided(*arguments)

    def placed(self, tree: _Tree) -> _Tree:
        """Copies of arrays on each device; on one device they stay where they are.

        Args:
            tree: arrays, the same in every process.
        """
        return tree if self.mesh is None else on_every_device(tree, self.mesh)

    def copied(self, tree: _Tree) -> _Tree:
        """Copies that no step gives up; of a mesh, on the host of each process.

        Args:
            tree: arrays that every device holds.
        """
        return jax.tree.map(jnp.copy if self.mesh is None else on_host, tree)

    def table(self, values: Any) -> Any:
        """A table of all items where it belongs: whole on each device, or in shares of its rows.

        Args:
            values: ``[R, …]``.
        """
        if self.mesh is None:
            return jax.device_put(values)
        if self.shares_tables:
            return rows_on(self.mesh, np.asarray(values))
        return on_every_device(np.asarray(values), self.mesh)


def division_of(wanted: Mesh | str | None, config: PinSageConfig, tables: int) -> Division:
    """Decide how batches are divided and where tables lie.

    Args:
        wanted: as :func:`lightgcn_jax.sharding.mesh_of` takes it. ``auto`` takes all devices:
            tables lie whole on each where they fill no more than half of its memory, else in shares
            on all of them. None for one device, of several processes for ``auto``.
        config: the settings.
        tables: bytes of features, neighbours and pools of hard negatives.

    Raises:
        InputError: the mesh does not divide the devices, or the settings do not run on one.
    """
    check_mesh(wanted, config)
    if wanted == _AUTO or (wanted is None and several()):
        fits = of_the_first(tables <= SHARE_FOR_TABLES * device_memory())
        wanted = f"{DATA if fits else MODEL}={jax.device_count()}"
    return Division(mesh_of(wanted))


def check_mesh(wanted: Mesh | str | None, config: PinSageConfig) -> None:
    """Refuse a mesh that does not divide the devices, and settings that do not run on one.

    Args:
        wanted: as :func:`division_of` takes it.
        config: the settings.

    Raises:
        InputError: it is one, or they are.
    """
    if mesh_of(wanted) is not None and config.tables == "host":
        raise InputError(
            "tables: expected device on a mesh, whose devices hold shares of them (mesh "
            "model=N), got host"
        )


def preparing_mesh(wanted: Mesh | str | None, needed: int) -> Mesh | None:
    """The devices to share a graph's rows out over before training: all that batches will be
    divided among, in one row, where the graph and its tables fill more than half of one's memory.

    Args:
        wanted: as :func:`division_of` takes it.
        needed: bytes of the graph and of the tables that are multiplied by it.

    Returns:
        None for one device, on which sums run in the same order as without a mesh.
    """
    mesh = mesh_of(wanted)
    if mesh is None or of_the_first(needed <= SHARE_FOR_TABLES * device_memory()):
        return None
    return Mesh(mesh.devices.reshape(1, -1), (DATA, MODEL))


def table_bytes(arrays: Any) -> int:
    """Bytes of tables, wherever they lie.

    Args:
        arrays: a pytree of them.
    """
    return sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))


def describe(division: Division, tables: int) -> str:
    """Say in one line how work is divided.

    Args:
        division: how.
        tables: bytes of features, neighbours and pools of hard negatives.
    """
    mesh = division.mesh
    assert mesh is not None
    shares, size = mesh.shape[MODEL], in_words(tables)
    where = f"in {shares} shares of their rows" if shares > 1 else "whole on each"
    return (
        f"{mesh.size} devices, each with its rows of a batch; features and neighbours ({size}) lie "
        f"{where}"
    )


ALONE = Division()
"""One device."""
