"""What programs are compiled for: devices that are here, and TPU topologies that are not.

XLA compiles for a TPU on a machine without one where libtpu is installed (the extra ``tpu``). The
only file that touches ``jax.experimental.topologies``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lightgcn_jax.arrays import default_device
from lightgcn_jax.diffusion.choice import PLATFORMS
from lightgcn_jax.errors import InputError

# What libtpu asks its surroundings for when it loads, a metadata server among them, answered for a
# machine without a TPU; and its lock is for processes that share a chip, of which there is none.
_WITHOUT_HARDWARE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
_TPU_DEVICE_FILES = ("/dev/accel0", "/dev/vfio/0")


class ExceedsMemoryError(InputError):
    """The program would not fit the memory of the device that it is compiled for."""


class NoCompilerError(InputError):
    """The compiler of a platform is not installed."""


@dataclasses.dataclass(frozen=True)
class Target:
    """One device to compile for.

    Attributes:
        name: as :func:`find_target` takes it.
        device: a ``jax.Device``, or one of a topology's, which can't run anything.
    """

    name: str
    device: Any

    @property
    def platform(self) -> str:
        """``cpu``, ``gpu`` or ``tpu``."""
        return self.device.platform

    def shapes(self, tree: Any) -> Any:
        """Describe arrays on the device.

        Args:
            tree: a pytree of arrays, or of their shapes and types.

        Returns:
            The tree with a ``jax.ShapeDtypeStruct`` on the device in the place of each array.
        """
        sharding = jax.sharding.SingleDeviceSharding(self.device)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
        )

    @contextlib.contextmanager
    def context(self) -> Iterator[None]:
        """The context in which programs are traced and compiled for the device."""
        if ":" not in self.name:
            yield
            return
        with ahead_of_time(jax.sharding.Mesh(np.array([self.device]), ("device",))):
            yield

    def available_bytes(self) -> int | None:
        """Memory that a program may still take on a device that is here; None if unknown."""
        if self.platform == "cpu":
            return available_host_bytes()
        stats = self.device.memory_stats() or {}
        if "bytes_limit" not in stats:
            return None
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)


def find_target(name: str | None = None) -> Target:
    """The device of that name.

    Args:
        name: ``cpu``, ``gpu`` or ``tpu`` for a device that is here; ``tpu:`` and a topology, such
            as ``tpu:v6e:2x2`` or ``tpu:v5e:2x2``, for one that need not be. By default the device
            that JAX runs on.

    Returns:
        The target.

    Raises:
        InputError: no such device is here, libtpu is missing, or it knows no such topology.
    """
    if name is None:
        device = default_device()
        return Target(device.platform, device)
    platform, _, topology = name.partition(":")
    if platform == "tpu" and topology:
        return Target(name, topology_devices(topology)[0])
    if platform not in PLATFORMS or topology:
        raise InputError(
            f"target: expected one of {PLATFORMS}, or a TPU topology such as tpu:v6e:2x2, "
            f"got {name!r}"
        )
    try:
        return Target(name, jax.devices(platform)[0])
    except RuntimeError:
        hint = "; name a topology, such as tpu:v6e:2x2" if platform == "tpu" else ""
        raise InputError(f"target: JAX finds no {platform} here{hint}") from None


def compile_for(target: Target, function: Any, *arguments: Any) -> jax.stages.Compiled:
    """The function, jitted, lowered for the target and compiled there; nothing runs.

    Args:
        target: the device to compile for.
        function: takes the arguments; one that is jitted already keeps its settings.
        arguments: pytrees of arrays, or of their shapes and types.

    Returns:
        The program.

    Raises:
        ExceedsMemoryError: it would not fit the target's memory; says by how much.
    """
    jitted = function if hasattr(function, "lower") else jax.jit(function)
    with target.context():
        return compiled_for(target.name, jitted.lower(*target.shapes(arguments)))


def compiled_for(name: str, lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compile what was lowered for devices of that name.

    Args:
        name: for the message.
        lowered: the program.

    Raises:
        ExceedsMemoryError: it would not fit the memory of a device; says by how much.
    """
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        what = str(error).partition("RESOURCE_EXHAUSTED: ")[2].partition("\n")[0]
        raise ExceedsMemoryError(f"{name}: {what}") from error


@contextlib.contextmanager
def ahead_of_time(mesh: jax.sharding.Mesh) -> Iterator[None]:
    """The context in which programs are traced and compiled for devices that need not be here.

    Args:
        mesh: of the devices.
    """
    with warnings.catch_warnings(), jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        # JAX keeps these programs too in its persistent cache, but can't load them again.
        warnings.filterwarnings("ignore", "Error reading persistent compilation cache")
        yield


def available_host_bytes() -> int | None:
    """Memory that this machine gives without swapping; None where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kilobytes = {name: int(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines)}
    return 1024 * kilobytes["MemAvailable"] if "MemAvailable" in kilobytes else None


def topology_devices(topology: str) -> list[Any]:
    """The devices of a TPU slice that need not be here; they can run nothing.

    Args:
        topology: such as ``v6e:16x16``.

    Returns:
        As ``jax.devices()`` gives those that are here.

    Raises:
        NoCompilerError: libtpu is missing.
        InputError: it knows no such topology.
    """
    # Imported here: programs for devices that are here go on where a later JAX has lost it.
    from jax.experimental import topologies

    if not any(map(os.path.exists, _TPU_DEVICE_FILES)):
        for variable, value in _WITHOUT_HARDWARE.items():
            os.environ.setdefault(variable, value)
    try:
        return topologies.get_topology_desc(topology_name=topology, platform="tpu").devices
    except jax.errors.JaxRuntimeError as error:
        raise InputError(
            f"target: libtpu knows no topology {topology!r} ({str(error).partition(': ')[2]}); "
            "try v5e:2x2 or v6e:2x2"
        ) from error
    except RuntimeError as error:
        if "not installed" not in str(error):
            raise
        raise NoCompilerError(
            f"target: compiling for tpu:{topology} needs libtpu; install the extra tpu"
        ) from None
