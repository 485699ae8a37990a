"""What every trained model starts from: a learnt table of one row a node."""

from __future__ import annotations

import math
from typing import Protocol

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import NodeTable, PRNGKey
from lightgcn_jax.errors import InputError


class TableShape(Protocol):
    """The settings of a layer-0 table.

    Attributes:
        dim: D.
        init_std: standard deviation of the normal initial embeddings.
    """

    @property
    def dim(self) -> int: ...

    @property
    def init_std(self) -> float: ...


def check_table(config: TableShape) -> None:
    """InputError for settings that no table can have."""
    if config.dim < 1:
        raise InputError(f"dim: expected at least 1, got {config.dim}")
    if not 0 < config.init_std < math.inf:
        raise InputError(f"init_std: expected a positive number, got {config.init_std}")


def check_layers(layers: int, least: int = 1) -> None:
    """InputError for too few applications of the operator."""
    if layers < least:
        raise InputError(f"layers: expected at least {least}, got {layers}")


def normal_table(key: PRNGKey, num_nodes: int, config: TableShape) -> NodeTable:
    """Normal layer-0 embeddings with standard deviation ``init_std``, ``float32[N, D]``."""
    return config.init_std * jax.random.normal(key, (num_nodes, config.dim), jnp.float32)
