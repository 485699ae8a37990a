"""Logs larger than memory -> a prepared folder that training maps."""

from lightgcn_jax.meter import Meter, SilentMeter
from lightgcn_jax.prepared.folder import Prepared, is_prepared, open_prepared
from lightgcn_jax.prepared.pipeline import prepare
from lightgcn_jax.prepared.preparation import Preparation

__all__ = [
    "Meter",
    "Preparation",
    "Prepared",
    "SilentMeter",
    "is_prepared",
    "open_prepared",
    "prepare",
]
