"""The report on what was compiled: its models against counting by hand, and what it prints."""

import dataclasses
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.cli import diffusion as command
from lightgcn_jax.cli import main
from lightgcn_jax.diffusion import (
    STORAGES,
    choice,
    choose_backend,
    diffuse,
    diffusion_operator,
    obstacles,
)
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph import node_order, normalized_adjacency
from lightgcn_jax.roofline import ceilings, diffusion_report, report
from lightgcn_jax.roofline.ceilings import _gather_and_add
from lightgcn_jax.roofline.hlo import compile_executable
from lightgcn_jax.roofline.report import layers_and_gradient
from lightgcn_jax.roofline.targets import Target, available_host_bytes, find_target
from lightgcn_jax.roofline.work import application_work
from tests.lightgcn.oracles import dense_multiscale, dense_normalized_adjacency
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, random_pairs

N, D = NUM_USERS + NUM_ITEMS, 4


@pytest.fixture(scope="module", autouse=True)
def _small_copy():
    """What a copy takes is not tested, and half a gigabyte is a lot beside other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ceilings, "_COPY_BYTES", 2**16)
        yield


@pytest.fixture(scope="module")
def pairs():
    users, items = random_pairs(3)
    # The last item is nobody's: its row of the table need not be read.
    keep = items < NUM_ITEMS - 1
    return users[keep], items[keep]


@pytest.fixture(scope="module")
def graph(pairs):
    return graph_of(*pairs)


@pytest.fixture(scope="module")
def found(graph):
    return diffusion_report(graph, dim=D, layers=2, repeats=2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_work_is_counted_by_hand(graph, pairs, dtype):
    users, items = pairs
    entries, number = 2 * len(users), jnp.dtype(dtype).itemsize
    named = len(set(users)) + len(set(items))
    assert named < N
    operator = diffusion_operator(graph, backend="segment", dtype=dtype)
    work = application_work(operator, normalized_adjacency(graph), D, dtype)
    stored = entries * (4 + 4 + number)  # sender, receiver, weight
    assert work.compulsory_bytes == stored + (named + N) * D * number
    assert work.uncached_bytes == stored + (entries + N) * D * number
    assert work.operations == 2 * entries * D


def test_layers_and_gradient(graph, pairs):
    """½‖Mx‖² and MᵀMx of the dense M = (1 + Ã + Ã²)/3."""
    x = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
    m = dense_multiscale(
        dense_normalized_adjacency(*pairs, NUM_USERS, NUM_ITEMS), np.eye(N), (1 / 3,) * 3
    )
    value, gradient = layers_and_gradient(diffusion_operator(graph), jnp.asarray(x), 2)
    np.testing.assert_allclose(value, 0.5 * ((m @ x) ** 2).sum(), rtol=1e-5)
    np.testing.assert_allclose(gradient, m.T @ m @ x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("entries", [0, 1, 7, 8, 9, 50])
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_the_bare_gather_reads_every_entry(entries, rows):
    rng = np.random.default_rng(entries)
    x, columns = rng.normal(size=(N, D)).astype(np.float32), rng.integers(N, size=entries)
    total = _gather_and_add(jnp.asarray(x), jnp.asarray(columns, jnp.int32), rows)
    np.testing.assert_allclose(total.sum(axis=0), x[columns].sum(axis=0), atol=1e-4)


def test_every_storage_is_reported(found):
    assert set(found.storages) == set(STORAGES)
    table = N * D * 4
    assert found.table_bytes == table
    for name, reason in obstacles("cpu").items():
        storage = found.storages[name]
        assert storage.obstacle == reason
        if reason is not None:
            assert storage.application is storage.layers is None
            continue
        one, both = storage.application, storage.layers
        assert both.work == one.work.times(4)
        for program in (one, both):
            assert program.not_run is None
            assert len(program.measurement.samples) == 2
            assert min(program.measurement.samples) <= program.measurement.seconds
            made = program.executable
            assert made.compile_seconds > 0
            assert made.host_callbacks == 0
            assert made.output_bytes >= table
            assert made.peak_bytes >= made.argument_bytes + made.output_bytes
            assert bool(made.scatters) == (name in ("segment", "bcoo"))


def test_rates_are_bytes_over_seconds(found):
    for storage in found.storages.values():
        if storage.obstacle is None:
            work, measured = storage.layers.work, storage.layers.measurement
            seconds = measured.seconds
            assert measured.compulsory_bandwidth == pytest.approx(work.compulsory_bytes / seconds)
            assert measured.uncached_bandwidth == pytest.approx(work.uncached_bytes / seconds)
            copying = work.compulsory_bytes / found.ceilings.copy_bandwidth
            assert measured.copy_ratio == pytest.approx(seconds / copying)
            assert measured.gather_ratio > 0


def test_the_native_kernel_is_named(found):
    calls = found.storages["csr"].application.executable.custom_calls
    assert [name.removesuffix("_ffi") for name in calls] == ["cpu_csr_sparse_dense"]
    assert found.choice == choose_backend("auto", "cpu")


def test_for_another_target_nothing_runs(graph):
    compiled = diffusion_report(graph, dim=D, layers=1, backends=("bucketed",), target="cpu")
    assert compiled.ceilings is None
    storage = compiled.storages["bucketed"]
    assert list(compiled.storages) == ["bucketed"]
    assert storage.application.measurement is storage.layers.measurement is None
    assert storage.application.not_run == "compiled only"
    assert not storage.application.executable.scatters


@pytest.mark.parametrize("worth_it", [True, False])
def test_auto_reports_the_ordering_that_it_names(graph, worth_it, monkeypatch):
    edges = graph.num_edges + (not worth_it)
    monkeypatch.setattr(choice, "EDGES_TO_ORDER", edges)
    applied = []

    def recorded(graph, **arguments):
        applied.append(graph)
        return diffusion_operator(graph, **arguments)

    monkeypatch.setattr(report, "diffusion_operator", recorded)
    compiled = diffusion_report(
        graph, dim=D, layers=1, backends=["csr"], ordering="auto", target="cpu"
    )
    assert compiled.ordering == ("co-clustering" if worth_it else "none")
    assert compiled.ordering_choice.name == compiled.ordering
    expected = graph.reordered(*node_order(graph, "co-clustering")) if worth_it else graph
    for one, other in zip(applied[0].pairs(), expected.pairs(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_available_memory_is_part_of_all():
    available = available_host_bytes()
    everything = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert available is None or everything / 1000 < available <= everything


def test_what_memory_does_not_hold_is_not_run(graph, monkeypatch):
    monkeypatch.setattr(Target, "available_bytes", lambda _: 100)
    program = (
        diffusion_report(graph, dim=D, layers=1, backends=("segment",))
        .storages["segment"]
        .application
    )
    assert program.measurement is None
    assert program.not_run.endswith("bytes, 100 are available")
    assert program.executable.temporary_bytes > 0


def test_scatters_and_callbacks_are_found_where_they_are(graph):
    """Each detector with a program that has what it looks for, and one that has not."""
    here, x, ids = find_target(), jnp.ones((8, D)), jnp.arange(3)

    def calls(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    def made(function, *arguments):
        return compile_executable(here, function, *arguments)[1]

    assert made(lambda x, ids: x.at[ids].add(1.0), x, ids).scatters
    assert not made(lambda x, ids: x[ids], x, ids).scatters
    assert made(calls, x).host_callbacks == 1
    assert made(jnp.sin, x).host_callbacks == 0
    # A donated argument's place is not counted twice.
    assert made(jax.jit(jnp.negative, donate_argnums=0), x).output_bytes == 0
    # XLA's own count of a program whose operations are known: 8·D additions.
    assert made(lambda x: x + x, x).operations == 8 * D
    # A native kernel is opaque to XLA.
    opaque = made(diffuse, diffusion_operator(graph, backend="csr"), jnp.ones((N, D)))
    assert opaque.operations is opaque.bytes_accessed is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "dim: expected a whole number of at least 1, got 0"),
        ({"layers": 0}, "layers: expected"),
        ({"repeats": 0}, "repeats: expected"),
        ({"dtype": "float16"}, "dtype: expected one of .*, got 'float16'"),
        ({"backends": ("csr", "coo")}, r"backends: expected some of .*, got \['coo'\]"),
        ({"ordering": "random"}, "ordering: expected one of"),
        ({"target": "npu"}, "target: expected one of .*, got 'npu'"),
        ({"target": "cpu:2x2"}, "target: expected one of .*, got 'cpu:2x2'"),
        ({"target": "tpu"}, "target: JAX finds no tpu here; name a topology"),
    ],
)
def test_bad_arguments(graph, arguments, message):
    with pytest.raises(InputError, match=message):
        diffusion_report(graph, **arguments)


def test_without_libtpu_the_extra_is_named(monkeypatch):
    from jax.experimental import topologies

    def absent(*_, **__):
        raise RuntimeError("JAX TPU support not installed; cannot generate TPU topology.")

    monkeypatch.setattr(topologies, "get_topology_desc", absent)
    with pytest.raises(InputError, match="needs libtpu; install the extra tpu"):
        find_target("tpu:v6e:2x2")


COMMAND = ("diffusion", "report", "--dim", "4", "--layers", "1", "--repeats", "1")


def test_the_command_prints_and_draws(tmp_path, capsys):
    picture = tmp_path / "report.svg"
    assert main([*COMMAND, "--backend", "csr", "segment", "--plot", str(picture)]) == 0
    out, err = capsys.readouterr()
    choice = f"auto stores  {choose_backend('auto', 'cpu').name}: "
    for part in ("One application", "1 layers, forward and backward", choice):
        assert part in out
    scatters = next(line.split() for line in out.splitlines() if line.startswith(" scatters"))
    assert scatters == ["scatters", "no", "1"]
    assert err.endswith(f"wrote {picture}\n")
    assert "row gather" in picture.read_text(encoding="utf-8")


def test_the_command_prints_json(capsys):
    flags = ("--backend", "csr", "--ordering", "auto", "--target", "cpu", "--json")
    assert main([*COMMAND, *flags]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["data"] == {"dataset": "synthetic"} | printed["data"]
    assert printed["choice"]["name"] == choose_backend("auto", "cpu").name
    assert printed["ordering"] == printed["ordering_choice"]["name"]
    assert printed["storages"]["csr"]["application"]["work"]["operations"] == (
        2 * printed["num_entries"] * 4
    )


def test_the_report_is_plain(found):
    copied = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert copied["choice"] == found.choice._asdict()
    assert copied["ceilings"] == dataclasses.asdict(found.ceilings)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--target", "npu"), "target: expected one of"),
        (("--backend", "coo"), "backends: expected some of"),
        (("--dim", "0"), "dim: expected a whole number"),
        (("--backend", "csr", "--target", "cpu", "--plot", "report.docx"), "--plot: expected"),
    ],
)
def test_what_a_user_can_mend_is_one_line(flags, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*COMMAND, *flags]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_storages_are_listed(capsys):
    assert main(["diffusion", "storages"]) == 0
    out = capsys.readouterr().out
    for platform in ("cpu", "gpu", "tpu"):
        lacking = {name for name, reason in obstacles(platform).items() if reason}
        assert f"on {platform}: " in out
        for name in STORAGES:
            assert (f"not available: {name} on {platform}: " in out) == (name in lacking)


def test_a_picture_of_an_unknown_kind_is_refused_before_anything_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(command, "diffusion_report", lambda *_, **__: pytest.fail("measured"))
    assert main([*COMMAND, "--plot", "report.docx"]) == 2
    assert "ends in .png, .pdf or .svg, got report.docx" in capsys.readouterr().err
