"""Which items a query is trained against: shared, hard and distance-weighted negatives."""

from pinsage_jax.negatives.curriculum import active_hard
from pinsage_jax.negatives.distance_weighted import draw_distance_weighted
from pinsage_jax.negatives.hard import HardPool, draw_hard, make_pool
from pinsage_jax.negatives.shared import draw_shared_negatives, hard_valid, shared_valid

__all__ = [
    "HardPool",
    "active_hard",
    "draw_distance_weighted",
    "draw_hard",
    "draw_shared_negatives",
    "hard_valid",
    "make_pool",
    "shared_valid",
]
