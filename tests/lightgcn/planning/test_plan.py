"""Plans by formula: sizes, memory, advice; collectives and accelerators that they rest on."""

import dataclasses
import json

import numpy as np
import pytest

from lightgcn_jax.cli.program import main
from lightgcn_jax.errors import InputError
from lightgcn_jax.planning import Workload, plan
from lightgcn_jax.planning.estimate import estimate
from lightgcn_jax.roofline.accelerators import ACCELERATORS, accelerator_of
from lightgcn_jax.roofline.collectives import read_collectives

BILLION = Workload(users=60_000_000, items=40_000_000, edges=1_000_000_000, batch_size=16_384)


def test_shards_read_as_many_distinct_rows_as_a_random_graph_has_them():
    """The largest of the counts of a drawn graph is within the room that is planned for it."""
    workload, shards = Workload(users=4000, items=2000, edges=60_000), 8
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 4000, 60_000), rng.integers(0, 2000, 60_000)
    most = 0
    for receiver in range(shards):
        read_items = np.unique(items[users // 500 == receiver]) // 250
        read_users = np.unique(users[items // 250 == receiver]) // 500
        counts = np.bincount(read_items, minlength=8) + np.bincount(read_users, minlength=8)
        most = max(most, counts.max())
    planned = workload.shard_sizes(shards)
    assert most <= planned.needed <= 1.1 * most
    assert planned.mean == 15_000
    assert planned.needed <= workload.layout_rows(shards)


def test_tables_are_shared_out_and_interactions_are_not():
    few, many = (estimate(BILLION, (1, count)) for count in (64, 256))
    tables = "tables and Adam's moments"
    assert few.memory[tables] == pytest.approx(4 * many.memory[tables], rel=1e-5)
    assert many.memory[tables] == pytest.approx(3 * 100e6 * 64 * 4 / 256, rel=1e-5)
    interactions = "interactions, for draws and masks"
    assert few.memory[interactions] == many.memory[interactions]
    assert many.memory[interactions] == pytest.approx(2 * 4e9 + 4 * 100e6, rel=1e-6)


def test_rows_that_travel_are_those_of_2k_applications():
    found = estimate(BILLION, (1, 256))
    assert found.exchange == "needed"
    sizes = BILLION.shard_sizes(256)
    assert found.received["all-to-all"] == 6 * 255 * sizes.needed * 64 * 4
    # On one shard nothing travels; the batch's parts add their gradients of the whole table up.
    alone = estimate(BILLION, (8, 1))
    assert alone.received["all-gather"] == 0
    assert alone.received["all-reduce"] == 5 * (2 * 100_000_000 * 64 * 4 * 7 // 8)


def test_a_plan_says_what_is_too_large_and_what_would_do():
    assert plan(BILLION, "v6e:16x16", compiled=False).fits
    small = plan(BILLION, "v5e:4x4", compiled=False)
    assert not small.fits
    assert "of the 16 GB of a device" in small.advice[0]
    assert "rows sent and received" in small.advice[0]
    assert any("--dim 32 takes" in line for line in small.advice)
    larger = plan(BILLION, "v6e:4x4", compiled=False)
    [enough] = [line for line in larger.advice if "devices, by formula" in line]
    count = int(enough.split()[2])
    assert plan(BILLION, "v6e", devices=count, compiled=False).fits
    assert not plan(BILLION, "v6e", devices=count // 2, compiled=False).fits
    # What every device holds is more than one has.
    many = dataclasses.replace(BILLION, edges=1_073_000_000, users=900_000_000)
    assert "no number of devices helps" in "".join(plan(many, "v5e", compiled=False).advice)


def test_32_bit_ids_bound_the_edges():
    with pytest.raises(InputError, match="counted in 32 bits, at most 2,147,483,647"):
        dataclasses.replace(BILLION, edges=1_073_741_824)
    with pytest.raises(InputError, match="dim: expected"):
        dataclasses.replace(BILLION, dim=0)


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("a100", None, "expected here or one of h200, k80, v5e, v5p, v6e"),
        ("v6e:4by4", None, "expected a shape such as 4x4 behind v6e:, got '4by4'"),
        ("v6e:2x2x2", None, "expected 2 sides of a slice of v6e"),
        ("v6e:4x4", 8, "expected 8 devices, got 'v6e:4x4', which are 16"),
    ],
)
def test_other_accelerators_are_refused(name, count, message):
    with pytest.raises(InputError, match=message):
        accelerator_of(name, count)


def test_shapes_of_slices():
    assert accelerator_of("v6e", 256).topology == "16x16"
    assert accelerator_of("v5e:8").topology == "2x4"
    assert accelerator_of("v5p:4").topology == "2x2x1"
    assert accelerator_of("h200:8").count == 8
    assert accelerator_of("V5E:4x4").count == 16
    for one in ACCELERATORS.values():
        assert one.source


def test_each_with_each_is_bound_by_the_bisection():
    """16 × 16: half of what every chip sends crosses 32 links, which carry 3.2 TB/s one way."""
    pod = accelerator_of("v6e:16x16")
    sent = 1e9
    assert pod.seconds("all-to-all", sent) == pytest.approx(128 * sent / 2 / 3.2e12)
    assert pod.seconds("all-gather", sent) == pytest.approx(sent / 400e9)
    assert accelerator_of("h200:8").seconds("all-to-all", sent) == pytest.approx(sent / 450e9)


TEXT = """
HloModule jit_step

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%condition (state: (s32[], f32[8,4])) -> pred[] {
  %three = s32[]{:T(128)} constant(3)
  %state = (s32[], f32[8,4]) parameter(0)
  %turn = s32[] get-tuple-element(%state), index=0
  ROOT %less = pred[] compare(%turn, %three), direction=LT
}

%body (state: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %sent = f32[4,2,4]{2,1,0} all-to-all(%x), replica_groups={{0,1,2,3}}, metadata={op_name="here"}
  %again = (s32[], f32[8,4]) while(%s), condition=%unknown, body=%inner
}

%unknown (state: (s32[])) -> pred[] {
  ROOT %less = pred[] compare(%turn, %other), direction=LT
}

%inner (state: (s32[])) -> (s32[]) {
  %summed = f32[16]{0} all-reduce(%x), replica_groups=[2,4]<=[8], to_apply=%add
}

ENTRY %main (x: f32[8,4]) -> f32[8,4] {
  %loop = (s32[], f32[8,4]) while(%start), condition=%condition, body=%body
  %all = (bf16[2,4]{1,0}, bf16[8,4]{1,0}) all-gather-start(%x), replica_groups={{0,1,2,3},{4,5,6,7}}
  %done = bf16[8,4]{1,0} all-gather-done(%all)
  %both = (f32[16]{0}, f32[4]{0}) all-reduce(%a, %b), replica_groups=mesh['x'=2,'y'=4] {'y'}
  %alone = f32[16]{0} all-reduce(%a), replica_groups={{0},{1}}
  %moved = f32[4]{0} collective-permute(%a), source_target_pairs={{0,1},{1,0}}
}
"""


def test_collectives_are_read_with_the_turns_of_their_loops():
    found = {(one.kind, one.group, one.times): one for one in read_collectives(TEXT, 8)}
    assert {key: one.received for key, one in found.items()} == {
        ("all-to-all", 4, 3): 32 * 4 * 3 // 4,
        ("all-reduce", 4, 3): 2 * 16 * 4 * 3 // 4,
        ("all-gather", 4, 1): 32 * 2 * 3 // 4,
        ("all-reduce", 4, 1): 2 * 20 * 4 * 3 // 4,
        ("collective-permute", 2, 1): 16,
    }
    assert found["all-to-all", 4, 3].operation == "here"
    assert [one.known for one in found.values()].count(False) == 1
    assert not found["all-reduce", 4, 3].known


def test_the_command_prints_a_plan(capsys):
    sizes = ["--users", "1000000", "--items", "200000", "--edges", "50000000"]
    assert main(["plan", *sizes, "--accelerator", "h200:8"]) == 0
    said = capsys.readouterr().out
    assert "It fits." in said
    assert "at least" in said
    assert "XLA compiles for a GPU only beside one" in said
    command = ["plan", *sizes, "--accelerator", "v5e", "--devices", "4", "--no-compile", "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["topology"] == "2x2"
    assert found["mesh"] == {"data": 1, "model": 4}
    assert found["memory_bytes"] == sum(found["memory_by_formula"].values())
    assert found["step_seconds"]["in_all"] > 0
    assert main(["plan", *sizes, "--accelerator", "v5e:2x2", "--mesh", "model=3"]) == 2
    assert "divides the 4 there are" in capsys.readouterr().err
