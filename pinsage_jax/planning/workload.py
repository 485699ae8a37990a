"""What is planned: the sizes of a catalogue and of a step, and the arrays that a run would make.

The sizes of a batch's layers are those of neighbours drawn uniformly, which repeat least.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lightgcn_jax.fields import Checked, setting, whole
from lightgcn_jax.sharding.mesh import MODEL
from lightgcn_jax.sharding.rows import rows_described
from pinsage_jax.config import PinSageConfig
from pinsage_jax.encoder.blocks import Capacities, bounds
from pinsage_jax.encoder.pinsage import STRUCTURE, PinSage, init_params, make_model
from pinsage_jax.features.inputs import Input
from pinsage_jax.graph.neighborhoods import NeighborTable
from pinsage_jax.training.batch import Batch, ItemArrays, num_targets
from pinsage_jax.training.step import TrainState
from pinsage_jax.training.trainer import make_optimizer

_FEATURES = "features"
# How many steps an epoch has changes no array.
_STEPS = 100


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
    def optimizer(self) -> optax.GradientTransformation:
        """What turns gradients into updates."""
        return make_optimizer(self.config, _STEPS)

    def most(self, parts: int) -> Capacities:
        """Room for every batch of a device, when it is divided.

        Args:
            parts: devices.
        """
        count = num_targets(self.config, 1, parts)
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

        def start(key: Any) -> TrainState:
            params = init_params(key, self.model)
            return TrainState(params, self.optimizer.init(params))

        return jax.eval_shape(start, jax.random.key(0))

    def arrays(self, mesh: Mesh | None = None) -> ItemArrays:
        """Shapes, types and places of what a step reads of the items.

        Args:
            mesh: the devices; None for one.
        """

        def table(kind: Any, width: int) -> Any:
            if mesh is not None and mesh.shape[MODEL] > 1:
                return rows_described(mesh, self.items, width, kind)
            return _described(jax.ShapeDtypeStruct((self.items, width), kind), mesh)

        features = {one.name: table(jnp.float32, one.width) for one in self.model.inputs}
        ids, weights = (table(kind, self.neighbors) for kind in (jnp.int32, jnp.float32))
        pool = table(jnp.int32, self.config.hard_pool) if self.hard else None
        items = _described(jax.ShapeDtypeStruct((self.items,), jnp.int32), mesh)
        near = NeighborTable(ids=ids, weights=weights)
        return ItemArrays(features, near, items, hard_pool=pool)

    def step_arguments(self, mesh: Mesh | None = None) -> tuple[Any, ...]:
        """Shapes, types and places of what a call of one compiled step takes.

        Args:
            mesh: the devices; None for one.
        """
        size = self.batch_size
        batch = jax.eval_shape(
            lambda: Batch(
                jnp.zeros((1, size, 1), jnp.int32),
                jnp.zeros((1, size), jnp.int32),
                jnp.ones((1, size), jnp.float32),
            )
        )
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
        active = jax.ShapeDtypeStruct((), jnp.int32)
        given = _described((self.state(), batch, keys, active), mesh)
        return *given, self.arrays(mesh)


def _described(tree: Any, mesh: Mesh | None) -> Any:
    """Copies on each device of a mesh."""
    if mesh is None:
        return tree
    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere), tree
    )


def _distinct(items: int, draws: int) -> int:
    """Distinct items among so many uniform draws, on average."""
    return math.ceil(items * -math.expm1(-draws / items))
