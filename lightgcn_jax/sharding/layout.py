"""Where users and items lie in tables whose rows are shared out over a mesh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lightgcn_jax.arrays import Array, Bool, Ids
from lightgcn_jax.models.model import map_tables
from lightgcn_jax.processes.placing import on_every_device, on_host
from lightgcn_jax.sharding.mesh import DATA, MODEL

_Tree = TypeVar("_Tree")


class Held(NamedTuple):
    """The nodes of one side that a shard holds.

    Attributes:
        start: the first node.
        stop: the first that is left out.
        rows: that the side takes on every shard, those included that stand for nobody.
    """

    start: int
    stop: int
    rows: int


@flax.struct.dataclass
class Layout:
    """Every shard holds as many users as any other and as many items, its users first.

    So a shard has its part of both sides of the graph, whatever their sizes are. Rows beyond the
    last user and the last item stand for nobody: they are zeros, and nothing reads them.

    Attributes:
        num_users: U.
        num_items: I.
        mesh: the devices.
    """

    num_users: int = flax.struct.field(pytree_node=False)
    num_items: int = flax.struct.field(pytree_node=False)
    mesh: Mesh = flax.struct.field(pytree_node=False)

    @property
    def shards(self) -> int:
        """S, how many parts a table has."""
        return self.mesh.shape[MODEL]

    @property
    def num_nodes(self) -> int:
        """N = U + I."""
        return self.num_users + self.num_items

    @property
    def rows_a_shard(self) -> int:
        """Users and items of a shard, those included that stand for nobody."""
        return sum(self._counts())

    @property
    def num_rows(self) -> int:
        """N', the rows of a table: those of all shards."""
        return self.shards * self.rows_a_shard

    def rows(self, nodes: Any) -> Any:
        """The row of each node.

        Args:
            nodes: ``int32``, from 0 to N − 1, users first; of NumPy or of JAX.
        """
        of = np if isinstance(nodes, np.ndarray) else jnp
        users, items = self._counts()
        is_user = nodes < self.num_users
        place = of.where(is_user, nodes, nodes - self.num_users)
        each = of.where(is_user, users, max(1, items))
        first = of.where(is_user, 0, users)
        return (place // each * self.rows_a_shard + first + place % each).astype(np.int32)

    def nodes_of(self, shard: int) -> tuple[Held, Held]:
        """The users and the items of a shard.

        Args:
            shard: from 0 to S − 1.
        """
        found, sides = [], ((0, self.num_users), (self.num_users, self.num_items))
        for (first, total), each in zip(sides, self._counts(), strict=True):
            start, stop = (first + min(total, (shard + more) * each) for more in (0, 1))
            found.append(Held(start, stop, each))
        return found[0], found[1]

    def is_user(self, rows: Ids) -> Bool[Array, " rows"]:
        """Whether rows are those of users.

        Args:
            rows: ``int32``.
        """
        return rows % self.rows_a_shard < self._counts()[0]

    def put(self, tree: _Tree) -> _Tree:
        """Tables of all nodes laid out on the mesh, and what else there is on each of its devices.

        A process lays out the rows of its own devices alone.

        Args:
            tree: with tables ``[…, N, D]``, known by their name as
                :func:`~lightgcn_jax.models.model.map_tables` knows them; the same in every process.
        """

        def spread(table: Any) -> Array:
            table = np.asarray(table)
            shape = (*table.shape[:-2], self.num_rows, table.shape[-1])

            def part(at: Any) -> np.ndarray:
                return self._part(table, at[-2])

            return jax.make_array_from_callback(shape, self._of_table(table.ndim), part)

        return on_every_device(map_tables(spread, tree), self.mesh)

    def described(self, tree: _Tree) -> _Tree:
        """Shapes, types and places of what :meth:`put` would lay out; nothing is allocated.

        Args:
            tree: shapes and types, tables ``[…, N, D]``.
        """

        def spread(table: Any) -> jax.ShapeDtypeStruct:
            shape = (*table.shape[:-2], self.num_rows, table.shape[-1])
            return jax.ShapeDtypeStruct(shape, table.dtype, sharding=self._of_table(len(shape)))

        def copied(leaf: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.everywhere)

        return map_tables(spread, jax.tree.map(copied, tree))

    def take(self, tree: _Tree) -> _Tree:
        """The opposite of :meth:`put`: tables of all nodes, on the host of every process.

        Args:
            tree: with tables ``[…, N', D]``.
        """
        rows = self.rows(np.arange(self.num_nodes, dtype=np.int32))
        return map_tables(lambda table: table[..., rows, :], jax.tree.map(on_host, tree))

    def constrained(self, tree: _Tree) -> _Tree:
        """The same in a traced program, told to lie on the mesh as :meth:`put` lays it.

        Args:
            tree: with tables ``[N', D]``.
        """

        def told(table: Array) -> Array:
            return jax.lax.with_sharding_constraint(table, self._of_table(table.ndim))

        return map_tables(told, tree)

    def shared_out(self, batch: _Tree, size: int) -> _Tree:
        """A traced batch with its rows shared out over the axis of data.

        Args:
            batch: arrays whose leading axis is the batch, and others.
            size: B.
        """
        if size % self.mesh.shape[DATA]:
            return batch

        by_data = NamedSharding(self.mesh, PartitionSpec(DATA))

        def told(leaf: Array) -> Array:
            if not leaf.ndim or leaf.shape[0] != size:
                return leaf
            return jax.lax.with_sharding_constraint(leaf, by_data)

        return jax.tree.map(told, batch)

    def made_by_each_device(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a traced function gives, with each device making all of it for itself.

        Args:
            function: takes the arguments; every device has all of them.
            arguments: pytrees of arrays.
        """
        everywhere = PartitionSpec()
        made = jax.shard_map(
            function,
            mesh=self.mesh,
            in_specs=everywhere,
            out_specs=everywhere,
            check_vma=False,
        )
        return made(*arguments)

    @property
    def everywhere(self) -> NamedSharding:
        """The place of what each device has a copy of."""
        return NamedSharding(self.mesh, PartitionSpec())

    def sides(self, nodes: Array) -> tuple[Array, Array]:
        """The users' and the items' rows of a traced table, as many of each on every shard; what
        stands behind the last of either stands for nobody.

        Args:
            nodes: ``float[N', D]``.

        Returns:
            ``float[S·u, D]`` and ``float[S·i, D]``.
        """
        of_shards = nodes.reshape(self.shards, self.rows_a_shard, -1)
        users, _ = self._counts()
        parts = of_shards[:, :users], of_shards[:, users:]
        users, items = (
            jax.lax.with_sharding_constraint(
                part.reshape(-1, nodes.shape[1]), self._of_table(nodes.ndim)
            )
            for part in parts
        )
        return users, items

    def _part(self, table: np.ndarray, rows: slice) -> np.ndarray:
        """A shard's part of a table of all nodes."""
        shard = (rows.start or 0) // self.rows_a_shard
        part = np.zeros((*table.shape[:-2], self.rows_a_shard, table.shape[-1]), table.dtype)
        at = 0
        for start, stop, each in self.nodes_of(shard):
            part[..., at : at + stop - start, :] = table[..., start:stop, :]
            at += each
        return part

    def _counts(self) -> tuple[int, int]:
        return -(-self.num_users // self.shards), -(-self.num_items // self.shards)

    def _of_table(self, axes: int) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(*[None] * (axes - 2), MODEL, None))
