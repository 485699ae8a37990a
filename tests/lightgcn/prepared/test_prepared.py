"""A prepared folder holds what the same files read in memory give, however these are cut, sorted
and interrupted."""

import dataclasses
import json
import shutil

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgcn_jax.data import (
    PARTS,
    given_split,
    leave_k_out_split,
    positives,
    ratio_split,
    read_interactions,
    temporal_split,
)
from lightgcn_jax.data.pairs import MappedPairs, merge_pairs
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.parts import evaluation_sets
from lightgcn_jax.evaluation.seen import SeenRows
from lightgcn_jax.graph.bipartite import BipartiteGraph, training_graph
from lightgcn_jax.prepared import Preparation, arranged, open_prepared, preparation, prepare
from lightgcn_jax.sharding import balanced
from lightgcn_jax.sharding.balance import unevenness
from lightgcn_jax.sums import verified
from tests.mutations import harmed, refused
from tests.stopped import contents

SHARES = (0.6, 0.2, 0.2)


def log(seed=0, rows=400, users=40, items=30, moments=25):
    """A log in which pairs repeat and many rows stand at one moment."""
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user": rng.integers(users, size=rows) * 3 + 1000,
            "item": [f"i{one}" for one in rng.integers(items, size=rows)],
            "rating": rng.integers(1, 6, size=rows).astype(np.float32),
            "timestamp": rng.integers(moments, size=rows) + 1_600_000_000,
        }
    )


def written(folder, frame, files=3, suffix="parquet"):
    folder.mkdir(parents=True)
    size = -(-len(frame) // files)
    for at in range(files):
        part, path = frame.slice(at * size, size), folder / f"part-{at}.{suffix}"
        part.write_csv(path) if suffix == "csv" else part.write_parquet(path, row_group_size=17)
    return folder


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """So few rows at once that everything is cut into several pieces, runs and blocks."""
    monkeypatch.setattr(
        preparation.Preparation, "rows_judged", property(lambda plan: 60 + plan.memory % 7)
    )
    monkeypatch.setattr(
        preparation.Preparation, "rows_sorted", property(lambda plan: 50 + plan.memory % 7)
    )


def arrays(folder):
    """The bytes of all but what names the files."""
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.suffix in (".npy", ".parquet")
    }


def assert_equal_splits(found, expected):
    assert found.users == expected.users
    assert found.items == expected.items
    assert found.description == expected.description
    for part in PARTS:
        one, other = getattr(found, part), getattr(expected, part)
        np.testing.assert_array_equal(one.users, other.users)
        np.testing.assert_array_equal(one.items, other.items)


METHODS = {
    "ratio": lambda data: ratio_split(data, *SHARES, seed=3),
    "leave-k-out": lambda data: leave_k_out_split(data, seed=3),
    "temporal": lambda data: temporal_split(data, *SHARES, seed=3),
    "temporal-per-user": lambda data: temporal_split(data, *SHARES, per_user=True, seed=3),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_the_split_is_the_one_in_memory(tmp_path, method, suffix):
    source = written(tmp_path / "log", log(), suffix=suffix)
    expected = METHODS[method](positives(read_interactions(source))).in_canonical_order()
    plan = Preparation((source,), split=method, shares=SHARES, split_seed=3, ordering="none")
    found = prepare(plan, tmp_path / "out").split
    assert_equal_splits(found, expected)
    assert set(expected.notes) <= set(found.notes)
    assert set(verified(tmp_path / "out").values()) == {"ok"}


def test_random_interactions_are_withheld_where_there_are_no_times(tmp_path):
    source = written(tmp_path / "log", log().drop("timestamp"))
    expected = leave_k_out_split(positives(read_interactions(source))).in_canonical_order()
    plan = Preparation((source,), split="leave-k-out", ordering="none")
    assert_equal_splits(prepare(plan, tmp_path / "out").split, expected)


@pytest.mark.parametrize("feedback", ["ratings", "events"])
def test_low_ratings_leave_as_in_memory(tmp_path, feedback):
    source = written(tmp_path / "log", log(users=120, items=80))
    data = positives(read_interactions(source), 4, feedback)
    assert data.num_users < read_interactions(source).num_users
    plan = Preparation((source,), min_rating=4, feedback=feedback, shares=SHARES, ordering="none")
    found = prepare(plan, tmp_path / "out").split
    assert_equal_splits(found, ratio_split(data, *SHARES).in_canonical_order())
    assert found.report == data.report


@pytest.mark.parametrize("unseen", ["keep", "drop"])
def test_a_given_split_stays(tmp_path, unseen):
    frame = log()
    for at, name in enumerate(("train", "valid", "test")):
        written(tmp_path / "log" / f"{name}.parquet", frame.slice(150 * at, 150))
    data = positives(read_interactions(tmp_path / "log"))
    plan = Preparation((tmp_path / "log",), unseen=unseen, ordering="none")
    found = prepare(plan, tmp_path / "out").split
    assert_equal_splits(found, given_split(data, unseen).in_canonical_order())


def test_pairs_that_training_does_not_name_are_dropped_or_refused(tmp_path):
    source = written(tmp_path / "log", log(rows=150, users=60, items=50))
    data = positives(read_interactions(source))
    make = {"split": "temporal", "shares": SHARES, "ordering": "none"}
    expected = temporal_split(data, *SHARES, unseen="drop")
    assert sum(len(getattr(expected, part)) for part in PARTS) < len(data)
    found = prepare(Preparation((source,), unseen="drop", **make), tmp_path / "out").split
    assert_equal_splits(found, expected.in_canonical_order())
    with pytest.raises(InputError, match="no training interaction names"):
        prepare(Preparation((source,), unseen="error", **make), tmp_path / "other")


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 5), st.sampled_from(["parquet", "csv"]))
def test_bytes_hang_on_no_order_of_rows_and_no_cut_into_files(tmp_path_factory, seed, files, form):
    folder = tmp_path_factory.mktemp("prepare")
    frame = log(rows=200)
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=seed)
    made = []
    for name, one, count, suffix in (("a", frame, 2, "parquet"), ("b", shuffled, files, form)):
        source = written(folder / name, one, count, suffix)
        plan = Preparation((source,), split="temporal-per-user", ordering="degree")
        prepare(plan, folder / f"{name}-out")
        made.append(arrays(folder / f"{name}-out"))
    assert made[0] == made[1]


def test_mapped_rows_are_the_graph(tmp_path):
    source = written(tmp_path / "log", log())
    found = prepare(Preparation((source,), ordering="degree"), tmp_path / "out")
    train = found.split.train
    sizes = {"num_users": len(found.split.users), "num_items": len(found.split.items)}
    expected = BipartiteGraph.from_pairs(train.users, train.items, **sizes)
    graph = training_graph(found.split)
    for way in ("items_of_user", "users_of_item"):
        one, other = getattr(graph, way), getattr(expected, way)
        np.testing.assert_array_equal(one.offsets, other.offsets)
        np.testing.assert_array_equal(one.columns, other.columns)
        assert one.longest == other.longest
        lengths = np.asarray(one.lengths())
        assert (np.diff(lengths) <= 0).all()  # by falling degree
    nodes = sum(sizes.values()) + 2
    headers = 4 * 128
    assert found.bytes_an_edge == (8 * len(train) + 4 * nodes + headers) / len(train)


def test_rows_that_do_not_fit_are_named_with_their_file(tmp_path):
    (tmp_path / "log.csv").write_text("user,item\n1,2\n3\n")
    with pytest.raises(InputError, match=r"log.csv:3: expected 2"):
        prepare(Preparation((tmp_path / "log.csv",)), tmp_path / "out")
    frame = log(rows=150)
    bad = frame.with_columns(
        item=pl.when(pl.int_range(150) == 140).then(pl.lit("")).otherwise("item")
    )
    source = written(tmp_path / "log", bad, files=1)
    plan = Preparation((source,), {"missing": "error"})
    with pytest.raises(InputError, match=r"part-0.parquet.*141"):
        prepare(plan, tmp_path / "other")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reading": {"weight_column": "rating"}}, "keeps no weights"),
        ({"memory": 1000}, "memory: expected 256,000,000 bytes or more, got 1,000"),
        ({"shares": (0.5, 0.1, 0.1)}, "a sum of 1"),
        ({"split": "random"}, "split: expected one of given, ratio"),
        ({"reading": {"format": "adjacency"}}, "expected Parquet tables or text"),
        ({"min_rating": 9.0}, "removed all"),
        ({"split": "given"}, "gave no split"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, options, message):
    source = written(tmp_path / "log", log(rows=60, users=6))
    with pytest.raises(InputError, match=message):
        prepare(Preparation((source,), **options), tmp_path / "out")


class Full(Exception):
    """Stands for a kill or a full disk."""


class Breaking:
    """Breaks a stage off in the middle."""

    def __init__(self, stage):
        self.stage, self.last = stage, None

    def started(self, stage, *_):
        self.last = stage

    def advanced(self, *_):
        if self.last == self.stage:
            raise Full

    def stopped(self):
        pass


def test_a_folder_of_another_preparation_is_refused(tmp_path):
    source = written(tmp_path / "log", log(rows=60, users=6))
    out = tmp_path / "out"
    with pytest.raises(Full):
        prepare(Preparation((source,), min_rating=2.0), out, Breaking("merging"))
    with pytest.raises(InputError, match="not finished"):
        open_prepared(out)
    with pytest.raises(InputError, match=r"preparation of other settings \(min_rating\)"):
        prepare(Preparation((source,)), out)
    (source / "part-0.parquet").write_bytes((source / "part-1.parquet").read_bytes())
    with pytest.raises(InputError, match="preparation of other files"):
        prepare(Preparation((source,), min_rating=2.0), out)
    shutil.rmtree(out)
    with pytest.raises(InputError, match="removed all"):  # What does not fit leaves nothing.
        prepare(Preparation((source,), min_rating=9.0), out)
    assert {path.name for path in out.iterdir()} <= {".lock"}
    prepare(Preparation((source,)), out)
    with pytest.raises(InputError, match="expected a new or empty directory"):
        prepare(Preparation((source,)), out)


def test_damage_is_told(tmp_path):
    source = written(tmp_path / "log", log(rows=60, users=6))
    out = tmp_path / "out"
    prepare(Preparation((source,)), out)
    for name, change, message in (
        ("prepared.json", lambda text: text.replace(b'"prepared": 1', b'"prepared": 2'), "bytes"),
        ("train-items-of-user.npy", lambda text: text[:-4], "other bytes"),
        ("users.parquet", lambda text: text[:-4], "other bytes"),
    ):
        kept = (out / name).read_bytes()
        (out / name).write_bytes(change(kept))
        with pytest.raises(InputError, match=message):
            _ = open_prepared(out).split
        (out / name).write_bytes(kept)
    (out / "sums.json").unlink()  # Nothing tells of the bytes: the rows themselves are looked at.
    values = np.load(out / "train-items-of-user.npy")
    for bad, message in ((-1, "rows below"), (int(values[0]), "rising entries")):
        changed = values.copy()
        changed[1] = bad
        np.save(out / "train-items-of-user.npy", changed)
        with pytest.raises(InputError, match=message):
            _ = open_prepared(out).split
    np.save(out / "train-items-of-user.npy", values)
    # A step that 32 bits cannot tell from a small one.
    offsets = np.load(out / "train-items-of-user-offsets.npy")
    offsets[1:3] = 2**31 - 1, -(2**31)
    np.save(out / "train-items-of-user-offsets.npy", offsets)
    with pytest.raises(InputError, match="offsets from 0"):
        _ = open_prepared(out).split
    manifest = json.loads((out / "prepared.json").read_text())
    (out / "prepared.json").write_text(json.dumps(manifest | {"prepared": 2}))
    with pytest.raises(InputError, match="expected version 1, got 2"):
        open_prepared(out)


def test_a_preparation_that_was_broken_off_anywhere_ends_with_the_same_bytes(tmp_path):
    """Every stage fails once, half done, and the next call goes on, with other memory too."""
    source = written(tmp_path / "log", log(rows=150))
    plan = Preparation((source,), split="temporal", ordering="degree")
    prepare(plan, tmp_path / "whole")

    out = tmp_path / "out"
    stages = ("reading files", "collecting ids", "sorting", "merging", "splitting",
              "ordering rows", "writing rows")  # fmt: skip
    for at, stage in enumerate(stages):
        changed = dataclasses.replace(plan, memory=10**9 + at)
        with pytest.raises(Full):
            prepare(changed, out, Breaking(stage))
        with pytest.raises(InputError, match="not finished"):
            open_prepared(out)
    prepare(plan, out)
    assert arrays(out) == arrays(tmp_path / "whole")
    kept = {name for name in contents(out) if not name.startswith(".")}
    assert kept == {name for name in contents(tmp_path / "whole") if not name.startswith(".")}


def test_what_was_left_damaged_is_refused_or_gone_on_with(tmp_path):
    source, out = written(tmp_path / "log", log(rows=150)), tmp_path / "out"
    plan = Preparation((source,), split="temporal", ordering="degree")
    with pytest.raises(Full):
        prepare(plan, tmp_path / "left", Breaking("splitting"))
    refusals = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        shutil.copytree(tmp_path / "left", out)
        files = sorted(one for one in out.rglob("*") if one.is_file() and one.name != ".lock")
        path = files[rng.integers(len(files))] if rng.random() < 0.5 else out / ".state.json"
        path.write_bytes(harmed(path.name, path.read_bytes(), rng))
        message = refused(lambda: prepare(plan, out))
        if message is not None:
            refusals += 1
            assert str(out) in message, f"seed {seed}: {message}"
            if not (out / ".state.json").exists():
                prepare(plan, out)
        shutil.rmtree(out)
    assert refusals


def test_rows_are_dealt_out_for_shards_and_seen_items_are_read_by_shard(tmp_path, monkeypatch):
    """Of train only the rows of the items that are asked for."""
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            name: (n * rng.random(3_000) ** 2).astype(int)
            for name, n in (("user", 300), ("item", 90))
        }
    )
    source = written(tmp_path / "log", frame)
    monkeypatch.setattr(arranged, "PARTS_DEALT", 4)
    prepare(Preparation((source,), ordering="dealt"), tmp_path / "out")
    split = open_prepared(tmp_path / "out").split
    graph = training_graph(split)
    # On a CPU the device reads the file where it is mapped.
    at = split.train.by_user.columns.ctypes.data
    assert np.asarray(graph.items_of_user.columns).ctypes.data == at
    degrees = graph.items_of_user.lengths()
    assert unevenness(np.asarray(degrees), 4) < 1.1 < unevenness(np.sort(degrees)[::-1], 4)
    assert balanced(split, 4) is split
    expected = evaluation_sets(dataclasses.replace(split, train=merge_pairs(split.train))).known
    train, seen = split.train, evaluation_sets(split).left_out("test")
    items = np.asarray(expected.columns)
    users = np.repeat(np.arange(len(split.users)), np.diff(expected.offsets))
    for start, stop in ((0, 30), (30, 60), (60, 90)):
        columns = np.full(len(train), -7, np.int32)
        here = slice(*train.by_item.offsets[[start, stop]])
        columns[here] = train.by_item.columns[here]
        other = train.by_item._replace(columns=columns)
        own = MappedPairs(train.by_user, other, train.ordering)
        found = SeenRows(own, split.valid, len(split.users)).of_items(start, stop)
        inside = (items >= start) & (items < stop)
        np.testing.assert_array_equal(found, [users[inside], items[inside]])
    np.testing.assert_array_equal(seen.offsets, expected.offsets)
    assert seen.longest == expected.longest
