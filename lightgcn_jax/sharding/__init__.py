"""Tables, operator and training shared out over the devices of a mesh."""

from lightgcn_jax.sharding.balance import balanced
from lightgcn_jax.sharding.blocks import Blocks
from lightgcn_jax.sharding.graph_matrix import Sharded
from lightgcn_jax.sharding.layout import Layout
from lightgcn_jax.sharding.mesh import mesh_of
from lightgcn_jax.sharding.shards import ShardSizes
from lightgcn_jax.sharding.storage import ShardedStorage

__all__ = ["Blocks", "Layout", "ShardSizes", "Sharded", "ShardedStorage", "balanced", "mesh_of"]
