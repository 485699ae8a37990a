"""The devices of a run: batches are shared out over one axis of them, tables over the other."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from lightgcn_jax.errors import InputError
from lightgcn_jax.processes.agreement import several

DATA, MODEL = "data", "model"
"""The axes: rows of a batch are shared out over the first, rows of tables over the second."""


def mesh_of(wanted: Any) -> Mesh | None:
    """A mesh of the devices of this process, or of all processes that do one piece of work.

    Args:
        wanted: ``data=2,model=4`` or one of the two alone, the other being 1; ``auto``, all devices
            on ``model``; a mesh with both axes, which is taken as it is; None for no mesh, or for
            ``auto`` where there are several processes.

    Returns:
        The mesh; None where one device does it all.

    Raises:
        InputError: it is none of these, or does not divide the devices; or it leaves out some of
            those of several processes.
    """
    if wanted is None and several():
        wanted = "auto"
    if wanted is None:
        return None
    if isinstance(wanted, Mesh):
        if set(wanted.axis_names) != {DATA, MODEL}:
            raise InputError(f"mesh: expected axes data and model, got {wanted.axis_names}")
        return wanted
    devices = jax.devices()
    sizes = mesh_sizes(wanted, len(devices))
    count = math.prod(sizes)
    if several() and count < len(devices):
        raise InputError(
            f"mesh: expected all {len(devices)} devices of the {jax.process_count()} processes, "
            f"got {sizes[0]} × {sizes[1]} = {count}"
        )
    if count == 1:
        return None
    return Mesh(np.array(devices[:count]).reshape(sizes), (DATA, MODEL))


def mesh_sizes(wanted: Any, devices: int) -> tuple[int, int]:
    """The sizes of the axes data and model.

    Args:
        wanted: text as :func:`mesh_of` reads it.
        devices: how many there are.

    Raises:
        InputError: it is something else, or does not divide the devices.
    """
    sizes = {DATA: 1, MODEL: devices} if wanted == "auto" else _sizes(wanted)
    count = math.prod(sizes.values())
    if devices % count:
        raise InputError(
            f"mesh: expected a number of devices that divides the {devices} there are, got "
            f"{sizes[DATA]} × {sizes[MODEL]} = {count}"
        )
    return sizes[DATA], sizes[MODEL]


def shown(mesh: Mesh) -> str:
    """A mesh as :func:`mesh_of` reads it.

    Args:
        mesh: with both axes.
    """
    return f"{DATA}={mesh.shape[DATA]},{MODEL}={mesh.shape[MODEL]}"


def _sizes(wanted: Any) -> dict[str, int]:
    sizes = {DATA: 1, MODEL: 1}
    parts = wanted.split(",") if isinstance(wanted, str) else [wanted]
    given = [part.partition("=") for part in parts if isinstance(part, str)]
    names = [name.strip() for name, _, _ in given]
    fit = len(given) == len(parts) == len(set(names)) and set(names) <= set(sizes)
    if not fit or not all(size.strip().isdecimal() and int(size) for _, _, size in given):
        raise InputError(
            f"mesh: expected auto or for instance data=2,model=4, whole numbers from 1 on, "
            f"got {wanted!r}"
        )
    return sizes | {name.strip(): int(size) for name, _, size in given}
