"""Several processes that do one piece of work together, each with devices of its own."""

from lightgcn_jax.processes.agreement import (
    EndedElsewhere,
    check_agreement,
    gathered,
    is_first,
    of_the_first,
    several,
    telling,
)
from lightgcn_jax.processes.placing import on_every_device, on_host

__all__ = [
    "EndedElsewhere",
    "check_agreement",
    "gathered",
    "is_first",
    "of_the_first",
    "on_every_device",
    "on_host",
    "several",
    "telling",
]
