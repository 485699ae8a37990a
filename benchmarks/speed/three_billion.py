"""What the catalogue of Ying et al. 2018 would take: three billion items, eighteen billion edges.

Of two cores by the rates that were measured, as if a stage took as long for an item, a membership
or a pair of a larger catalogue; of accelerators by their published bandwidths, as
:mod:`pinsage_jax.planning` has it, with the same encoder. Neither was run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightgcn_jax.roofline.accelerators import Devices, accelerator_of
from pinsage_jax.planning import Plan, Workload, plan

ITEMS, EDGES, PAIRS = 3_000_000_000, 18_000_000_000, 1_200_000_000
"""Nodes and edges of the paper's graph, and pairs that are trained on."""

PAPER = {
    "training": "two days, 16 GPUs",
    "all items": "under a day, 378 machines",
}
"""What the paper reports."""

_COUNTS = {"memberships": EDGES, "items": ITEMS, "pairs": PAIRS}
_NUMBER, _DAY = 4, 86_400.0
# Ids have 32 bits: what is planned is a third of the catalogue and of the pairs, on a third of the
# devices, which takes as long.
_PARTS = 3
# Devices are doubled so often in the search for enough of them.
_DOUBLINGS = 12


def days_on_two_cores(stages: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Days of each stage, in proportion to what is counted.

    Args:
        stages: of each ``stage``, ``unit``, ``count`` and ``seconds_of_work``.
    """
    return {
        one["stage"]: one["seconds_of_work"] / one["count"] * _COUNTS[one["unit"]] / _DAY
        for one in stages
    }


def on_accelerators(width: int, neighbors: int, pairs: int, names: Sequence[str]) -> list[Any]:
    """The fewest devices of each kind that hold the catalogue, and what they take at the least.

    Args:
        width: numbers that describe an item.
        neighbors: T.
        pairs: of a step, on each device.
        names: of the accelerators.

    Returns:
        For each ``accelerator``, ``devices``, whether it ``fits`` them, ``training_seconds`` of all
        pairs once and ``all_items_seconds``.
    """
    return [_on(name, width, neighbors, pairs) for name in names]


def _on(name: str, width: int, neighbors: int, pairs: int) -> dict[str, Any]:
    def workload(devices: int) -> Workload:
        return Workload(
            items=ITEMS // _PARTS,
            memberships=1,  # they decide the host's memory alone, which is not asked for here
            width=width,
            neighbors=neighbors,
            structure=0,
            batch_size=pairs * devices,
        )

    def planned(devices: int) -> Plan:
        return plan(workload(devices), name, devices=devices, compiled=False)

    count = next((2**power for power in range(_DOUBLINGS) if planned(2**power).fits), 2**_DOUBLINGS)
    made = planned(count)
    seconds = made.seconds
    assert seconds is not None
    steps = PAIRS / _PARTS / made.workload.batch_size
    return {
        "accelerator": name,
        "devices": _PARTS * count,
        "fits": made.fits,
        "training_seconds": steps * sum(seconds.values()),
        "all_items_seconds": _embedding(made.workload, accelerator_of(name, count)),
    }


def _embedding(size: Workload, devices: Devices) -> float:
    """Seconds in which all items are embedded: each layer reads the messages of an item's
    neighbours, most of which lie on other devices, and reads and writes its own vectors."""
    row = size.dim * _NUMBER
    asked = size.layers * size.neighbors * (row + _NUMBER)
    moved = asked + size.layers * (3 * row + 2 * _NUMBER * size.neighbors) + _NUMBER * size.width
    share = size.items / devices.count
    bandwidth = devices.kind.memory_bandwidth
    assert bandwidth is not None
    elsewhere = share * asked * (1 - 1 / devices.count)
    return share * moved / bandwidth + (devices.seconds("all-to-all", elsewhere) or 0.0)
