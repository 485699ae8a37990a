"""Names for the arrays that travel between the stages.

U users, I items, N = U + I nodes (users first, item i is node U + i), E interactions,
D dimensions, B batch, M shared negatives, K cut-off.
"""

from jaxtyping import Array, Bool, Float, Int, Key

NodeTable = Float[Array, "nodes dim"]
UserTable = Float[Array, "users dim"]
ItemTable = Float[Array, "items dim"]
Vectors = Float[Array, "batch dim"]
Vector = Float[Array, " dim"]
Scalar = Float[Array, ""]
Ids = Int[Array, " batch"]
RankedIds = Int[Array, "batch cutoff"]
Mask = Bool[Array, "..."]
PRNGKey = Key[Array, ""]

__all__ = [
    "Array",
    "Bool",
    "Float",
    "Ids",
    "Int",
    "ItemTable",
    "Mask",
    "NodeTable",
    "PRNGKey",
    "RankedIds",
    "Scalar",
    "UserTable",
    "Vector",
    "Vectors",
]
