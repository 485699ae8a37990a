"""``python -m benchmarks.workloads.prepare_stages LOG OUT MEMORY``: a log prepared in a process of
its own, and what each stage took, as a line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.harness.process import cpu_seconds, own_peak_gb, reset_own_peak
from lightgcn_jax.meter import Meter
from lightgcn_jax.prepared import prepare
from lightgcn_jax.prepared.preparation import Preparation, bytes_of


class StageMeter(Meter):
    """Keeps what each stage took.

    Attributes:
        stages: for each that has ended ``stage``, ``seconds``, ``cpu_seconds`` and ``peak_gb``, the
            most memory that the process held during it.
    """

    def __init__(self) -> None:
        self.stages: list[dict[str, Any]] = []
        self._begun: tuple[str, float, float] | None = None

    def started(self, stage: str, total: int | None, unit: str) -> None:
        """A stage begins, and ends the one before.

        Args:
            stage: what it does.
            total: how much there is to do.
            unit: what is counted.
        """
        del total, unit
        self.stopped()
        reset_own_peak()
        self._begun = stage, time.perf_counter(), cpu_seconds()
        print(stage, file=sys.stderr, flush=True)

    def stopped(self) -> None:
        """The stage under way, if there is one, has ended."""
        if self._begun is None:
            return
        stage, start, cpu = self._begun
        self._begun = None
        took = {"seconds": time.perf_counter() - start, "cpu_seconds": cpu_seconds() - cpu}
        self.stages.append({"stage": stage, **took, "peak_gb": own_peak_gb()})


def main(log: str, out: str, memory: str) -> None:
    """Prepare; see the module.

    Args:
        log: the folder of the log.
        out: the folder that is made.
        memory: what it may take, as ``--memory`` has it.
    """
    meter = StageMeter()
    prepare(Preparation([Path(log)], memory=bytes_of(memory)), Path(out), meter)
    print(json.dumps(meter.stages))


if __name__ == "__main__":
    main(*sys.argv[1:])
