"""The step compiled for TPU slices that are not here: memory, callbacks, collectives."""

import importlib.util

import pytest

from pinsage_jax.planning import Workload, plan

pytestmark = [
    pytest.mark.slow,  # a minute of compiling each
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="needs libtpu, the extra tpu"
    ),
]
SMALL = Workload(
    items=100_000, memberships=1_000_000, width=64, dim=32, neighbors=10, structure=0,
    batch_size=256, negatives=64, hard=2,
)  # fmt: skip


@pytest.mark.parametrize(
    ("slice_name", "mesh"),
    [("v5e:2x2", "data=4"), ("v5e:2x2", "model=4"), ("v5e:4x4", "data=4,model=4")],
)
def test_the_step_fits_a_slice_and_exchanges_what_is_planned(slice_name, mesh):
    made = plan(SMALL, slice_name, mesh=mesh)
    assert made.program is not None, made.note
    assert made.fits
    assert made.program.executable.host_callbacks == 0
    received = made.program.received
    assert received is not None
    # The compiler may sum and take shares in one, and send vectors in bfloat16.
    assert received.keys() <= made.received_at_most.keys()
    assert ("all-to-all" in received) == made.shared_out
    assert sum(received.values()) == pytest.approx(sum(made.received_at_most.values()), rel=0.1)
    for kind in received.keys() & {"all-to-all"}:
        assert received[kind] == pytest.approx(made.received_at_most[kind], rel=0.05)
