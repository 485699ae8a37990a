"""Accelerators by name: memory and bandwidths as their makers publish them, and how devices of one
kind are joined.

``here`` stands for the devices that JAX sees. Nothing of the table was measured. A program reaches
a part of these bandwidths, and less where it reads single rows of a table.
"""

from __future__ import annotations

import dataclasses
import math
import re

import jax

from lightgcn_jax.errors import InputError
from lightgcn_jax.memory import device_memory

HERE = "here"
"""The devices that JAX sees."""


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """One device of a kind.

    Attributes:
        name: as :func:`accelerator_of` takes it.
        memory: bytes of its fast memory.
        memory_bandwidth: bytes read and written a second; None where nobody has published it.
        operations: floating-point operations a second, in bfloat16; likewise.
        link_bandwidth: bytes a second that a device sends to the devices near it, all links
            together; as many come in at the same time. Likewise.
        near: how many devices are joined so.
        far_bandwidth: bytes a second that a device sends to one that is not near.
        torus: axes of the torus that joins them; 0 where a switch joins each with each.
        source: where the figures are published.
    """

    name: str
    memory: float
    memory_bandwidth: float | None
    operations: float | None
    link_bandwidth: float | None
    near: int
    far_bandwidth: float | None
    torus: int
    source: str

    @property
    def compiles(self) -> bool:
        """Whether programs can be compiled for it: it is here, or XLA needs none (see
        :mod:`.targets`)."""
        return self.torus > 0 or self.name == HERE


_TPU_DOCS = "docs.cloud.google.com/tpu/docs"
_GB = 1e9
# TPUs: "bidirectional" bandwidth a chip counts both directions, half of it is sent. Beyond a pod
# the network of the data centre counts: 6.4 and 25.6 Tbit/s a pod of 256, 50 Gbit/s a v5p chip.
# H200: NVLink's 900 GB/s count both directions. Between hosts, 400 Gbit/s of a network adapter for
# each GPU, as the DGX H200 has it. K80: one of a board's two GPUs, in float32, which share 16 lanes
# of PCI Express 3.0; 16 of them share a host's 20 Gbit/s.
ACCELERATORS = {
    one.name: one
    for one in (
        Accelerator(
            "h200", 141 * _GB, 4800 * _GB, 989e12, 450 * _GB, 8, 50 * _GB, 0,
            "nvidia.com/en-us/data-center/h200 and the data sheet of the DGX H200",
        ),
        Accelerator(
            "k80", 12 * _GB, 240 * _GB, 4.37e12, 7.9 * _GB, 16, 0.156 * _GB, 0,
            "data sheet of the Tesla K80, aws.amazon.com/ec2/instance-types/p2",
        ),
        Accelerator(
            "v5e", 16 * _GB, 819 * _GB, 197e12, 200 * _GB, 256, 3.1 * _GB, 2, f"{_TPU_DOCS}/v5e"
        ),
        Accelerator(
            "v5p", 95 * _GB, 2765 * _GB, 459e12, 600 * _GB, 8960, 6.25 * _GB, 3, f"{_TPU_DOCS}/v5p"
        ),
        Accelerator(
            "v6e", 32 * _GB, 1638 * _GB, 918e12, 400 * _GB, 256, 12.5 * _GB, 2, f"{_TPU_DOCS}/v6e"
        ),
    )
}  # fmt: skip
# From this length on an axis of a slice is closed to a ring.
_RING = {2: 16, 3: 4}


@dataclasses.dataclass(frozen=True)
class Devices:
    """Several devices of one kind.

    Attributes:
        kind: what one of them is.
        shape: of the torus; the number alone where there is none.
    """

    kind: Accelerator
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many there are."""
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        """As :func:`accelerator_of` takes it."""
        return f"{self.kind.name}:{self.topology}"

    @property
    def topology(self) -> str:
        """The shape in words, ``4x4``."""
        return "x".join(map(str, self.shape))

    def seconds(self, kind: str, received: float) -> float | None:
        """How long a collective takes at the published bandwidths.

        Gathers and sums go round in rings and use every link. In an exchange of each with each,
        what a device sends passes over several links of a torus on its way.

        Args:
            kind: ``all-to-all`` or another.
            received: bytes that each device gets.

        Returns:
            Seconds; None where no bandwidth is known.
        """
        if self.count == 1:
            return 0.0
        if self.count > self.kind.near:
            return None if self.kind.far_bandwidth is None else received / self.kind.far_bandwidth
        hops = self._hops() if kind == "all-to-all" else 1.0
        links = self.kind.link_bandwidth
        return None if links is None else received * hops / links

    def _hops(self) -> float:
        """Links from a device to another, on average, and at least one."""
        if not self.kind.torus:
            return 1.0
        ring = _RING[self.kind.torus]
        return max(
            1.0, sum(n / 4 if n >= ring else (n * n - 1) / (3 * n) for n in self.shape if n > 1)
        )


def accelerator_of(name: str, count: int | None = None) -> Devices:
    """The devices of that name.

    Args:
        name: ``h200``, ``v5e``, ``v5p`` or ``v6e``, alone or with the shape of a slice,
            ``v6e:16x16``, or a number, ``h200:8``; ``here`` for all devices that JAX sees.
        count: how many; by default what the name says, or one.

    Raises:
        InputError: no such accelerator, or no such number of them.
    """
    if name == HERE:
        return _here(count)
    kind, _, shape = name.lower().partition(":")
    if kind not in ACCELERATORS:
        raise InputError(
            f"accelerator: expected here or one of {', '.join(ACCELERATORS)}, alone or with a "
            f"shape such as v6e:16x16, got {name!r}"
        )
    found = ACCELERATORS[kind]
    if shape and not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape):
        raise InputError(f"accelerator: expected a shape such as 4x4 behind {kind}:, got {shape!r}")
    sides = tuple(map(int, shape.split("x"))) if shape else _sides(count or 1, found.torus)
    if found.torus and len(sides) not in (1, found.torus):
        raise InputError(
            f"accelerator: expected {found.torus} sides of a slice of {kind}, got {shape!r}"
        )
    if found.torus and len(sides) == 1:
        sides = _sides(sides[0], found.torus)
    devices = Devices(found, (math.prod(sides),) if not found.torus else sides)
    if count is not None and devices.count != count:
        raise InputError(
            f"accelerator: expected {count} devices, got {name!r}, which are {devices.count}"
        )
    return devices


def _here(count: int | None) -> Devices:
    devices = jax.devices()
    if count is not None and not 1 <= count <= len(devices):
        raise InputError(f"devices: expected 1 to {len(devices)}, those here, got {count}")
    kind = devices[0].device_kind
    one = Accelerator(HERE, device_memory(), None, None, None, len(devices), None, 0, kind)
    return Devices(one, (count or len(devices),))


def _sides(count: int, torus: int) -> tuple[int, ...]:
    """The sides of a slice of so many, as even as whole numbers allow, the smallest first."""
    if not torus:
        return (count,)
    sides: list[int] = []
    for left in range(torus, 0, -1):
        side = next(n for n in range(round(count ** (1 / left)), 0, -1) if count % n == 0)
        sides.append(side)
        count //= side
    # Clouds name slices of three axes from the smallest side, and v5p's 2x2x1 the other way.
    ordered = sorted(sides)
    return tuple(sorted(sides, reverse=True)) if ordered[0] == 1 else tuple(ordered)
