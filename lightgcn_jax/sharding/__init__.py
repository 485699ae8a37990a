"""Tables, operator and training shared out over the devices of a mesh."""

from lightgcn_jax.sharding.balance import balanced
from lightgcn_jax.sharding.layout import Layout
from lightgcn_jax.sharding.mesh import mesh_of
from lightgcn_jax.sharding.storage import Sharded, ShardedStorage, ShardSizes

__all__ = ["Layout", "ShardSizes", "Sharded", "ShardedStorage", "balanced", "mesh_of"]
