"""The sharded step compiled for TPU slices that are not here: memory, callbacks, collectives."""

import importlib.util

import pytest

from lightgcn_jax.planning import Workload, plan

pytestmark = [
    pytest.mark.slow,  # a minute of compiling each
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="needs libtpu, the extra tpu"
    ),
]
SMALL = Workload(users=60_000, items=40_000, edges=1_000_000, layers=2, negatives=64)


@pytest.mark.parametrize("slice_name", ["v5e:2x2", "v5e:4x4"])
def test_the_step_fits_a_slice_and_exchanges_what_is_planned(slice_name):
    made = plan(SMALL, slice_name)
    assert made.program is not None, made.note
    executable, found = made.program.executable, made.estimate
    assert executable.host_callbacks == 0
    assert made.fits
    # Rows as the storage exchanges them, and sums of the batch's rows; nothing else.
    kind = "all-to-all" if found.exchange == "needed" else "all-gather"
    assert made.program.received is not None
    assert made.program.received.keys() == {kind, "all-reduce"}
    assert all(one.known for one in made.program.collectives or ())
    assert made.program.received[kind] == pytest.approx(found.received[kind], rel=0.05)
    assert sum(made.program.received.values()) <= 1.05 * sum(found.received.values())
    # What it is given is known exactly but for tiles; nothing is of a whole table's size.
    held = found.memory["users to draw from"] + found.memory["the best epoch's table"]
    assert held < executable.argument_bytes < found.total
    # Small tables stay in the chip's fast memory, so that the formula says too much.
    assert executable.peak_bytes < found.in_program
