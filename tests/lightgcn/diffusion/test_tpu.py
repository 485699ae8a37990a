"""Programs for TPUs that are not here: compiled ahead of time and read, never run."""

import functools
import importlib.util
import json
import subprocess
import sys

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.cli import main
from lightgcn_jax.diffusion import diffuse, diffusion_operator, obstacles
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import ranking
from lightgcn_jax.evaluation.scorer import InnerProduct
from lightgcn_jax.graph import BipartiteGraph
from lightgcn_jax.models.lightgcn import LightGCN
from lightgcn_jax.roofline.hlo import compile_executable
from lightgcn_jax.roofline.report import diffusion_report, layers_and_gradient
from lightgcn_jax.roofline.targets import ExceedsMemoryError, find_target
from lightgcn_jax.roofline.work import storage_bytes
from lightgcn_jax.training.epoch import EpochPlan, compile_steps
from lightgcn_jax.training.optimizer import Optimization, make_optimizer
from lightgcn_jax.training.samplers import SharedNegatives
from lightgcn_jax.training.step import initial_state
from lightgcn_jax.training.strategies import StepInputs, Strategies, TracedSettings

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu, the extra tpu"
)

# Memory of one chip, bytes.
CHIPS = {"v5e:2x2": 16e9, "v6e:2x2": 32e9}
# A TPU lays 128 numbers side by side: a narrower table takes as much room.
DIM = 128
ON_TPU = sorted(name for name, obstacle in obstacles("tpu").items() if obstacle is None)


@pytest.fixture(scope="module", params=CHIPS)
def tpu(request):
    return find_target(f"tpu:{request.param}")


def memory_of(tpu):
    return CHIPS[tpu.name.partition(":")[2]]


def world(num_users, num_items, degrees, hub):
    """Users of a few degrees and one hub, their items dealt out in turn."""
    lengths = np.resize(degrees, num_users)
    lengths[0] = hub
    users = np.repeat(np.arange(num_users), lengths)
    items = np.arange(len(users)) % num_items
    return BipartiteGraph.from_pairs(users, items, num_users=num_users, num_items=num_items)


@pytest.fixture(scope="module")
def graph():
    """Few bucket widths, which is what compiling takes time for, and a hub cut into pieces."""
    return world(3000, 2000, (4, 16), hub=300)


def table_of(graph):
    return jax.ShapeDtypeStruct((graph.num_nodes, DIM), jnp.float32)


# Tables of N×D beside arguments and results. Gathers that are added up in one turn may all be under
# way at once, and there are eight: for 100,000 nodes, one application and three layers both ways,
# measured 4.0 and 4.7 on v5e, 7.1 and 9.2 on v6e.
MOST_TABLES = 12


def compiled(tpu, graph, backend):
    operator = diffusion_operator(graph, backend=backend, platform="tpu")
    both_ways = functools.partial(layers_and_gradient, layers=3)
    for function in (diffuse, both_ways):
        yield operator, compile_executable(tpu, function, operator, table_of(graph))[1]


@pytest.mark.parametrize("backend", ON_TPU)
def test_every_storage_compiles(tpu, graph, backend):
    table = np.prod(table_of(graph).shape) * 4
    for operator, made in compiled(tpu, graph, backend):
        assert made.host_callbacks == 0
        assert made.peak_bytes < memory_of(tpu)
        assert made.argument_bytes >= storage_bytes(operator) + table
        assert made.output_bytes >= table
        if backend in ("bucketed", "pallas"):
            assert not made.scatters
            assert made.temporary_bytes <= MOST_TABLES * table
        else:
            # Without these the line above would say nothing.
            assert made.scatters


@pytest.mark.slow
def test_bucketed_keeps_few_tables_of_a_graph_beyond_the_chip_s_fast_memory(tpu):
    graph = world(60_000, 40_000, (4, 8, 24), hub=300)
    table = np.prod(table_of(graph).shape) * 4
    for _, made in compiled(tpu, graph, "bucketed"):
        assert not made.scatters
        assert made.temporary_bytes <= MOST_TABLES * table
        assert made.peak_bytes < memory_of(tpu)


@flax.struct.dataclass
class Scoped:
    """A storage whose operations are named in the program, so that they are told from others."""

    storage: object

    @property
    def shape(self):
        return self.storage.shape

    def multiply(self, x):
        with jax.named_scope("the-diffusion"):
            return self.storage.multiply(x)


def compiled_steps(tpu, graph, backend):
    """Two steps of LightGCN's training as a run compiles them, their diffusion named."""
    strategies = Strategies(
        LightGCN(dim=DIM, layers=2),
        negatives=SharedNegatives(16),
        optimization=Optimization(batch_size=128),
    )
    inputs = StepInputs.of(graph, strategies, backend=backend)
    scoped = inputs.operator.replace(storage=Scoped(inputs.operator.storage))
    plan = EpochPlan(steps_per_epoch=8, calls=4, steps_per_call=2)
    optimizer = make_optimizer(strategies.optimization, plan.steps_per_epoch)

    def start(key):
        return initial_state(key, graph.num_nodes, strategies, optimizer)

    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    states = jax.eval_shape(jax.vmap(start), keys)
    shuffles = jax.ShapeDtypeStruct((1, graph.num_edges), jnp.int32)
    steps = jax.jit(compile_steps(strategies, lambda _: optimizer, plan), donate_argnums=0)
    traced = jax.eval_shape(lambda: TracedSettings.stacked([strategies]))
    arguments = states, keys, shuffles, traced, jax.ShapeDtypeStruct((), jnp.int32)
    return compile_executable(tpu, steps, *arguments, inputs._replace(operator=scoped))[1]


def test_the_training_steps_compile(tpu, graph):
    programs = {name: compiled_steps(tpu, graph, name) for name in ("bucketed", "segment")}
    table = np.prod(table_of(graph).shape) * 4
    for made in programs.values():
        assert made.host_callbacks == 0
        # Parameters and two moments are donated: beside them only losses come out.
        assert made.argument_bytes >= 3 * table
        assert made.output_bytes < table
        # Beside those of the diffusion the gradient, and what Adam makes of it.
        assert made.temporary_bytes <= (MOST_TABLES + 4) * table
        assert made.peak_bytes < memory_of(tpu)
    inside = [name for name in programs["segment"].scatters if "the-diffusion" in name]
    outside = [name for name in programs["segment"].scatters if "the-diffusion" not in name]
    assert inside
    # Sampling and the batch's own rows scatter, whatever the storage; nothing else does.
    assert outside
    assert sorted(programs["bucketed"].scatters) == sorted(outside)


def test_evaluation_compiles(tpu, graph):
    k, queries = 20, 128
    padding = -graph.num_items % ranking.group_width(graph.num_items, 8)
    tables = (
        jax.ShapeDtypeStruct((graph.num_users, 64), jnp.float32),
        jax.ShapeDtypeStruct((graph.num_items + padding, 64), jnp.float32),
    )
    padding_rows = jax.ShapeDtypeStruct((padding,), jnp.int32)
    rows = jax.ShapeDtypeStruct((queries,), jnp.int32)
    width = ranking.group_width(graph.num_items, k)
    block = functools.partial(ranking.rank_block, k=k, width=width, seen_capacity=4096)
    ready = InnerProduct(*tables), padding_rows, None
    _, made = compile_executable(tpu, block, rows, *ready, graph.items_of_user)
    assert made.host_callbacks == 0
    scores = queries * (graph.num_items + padding) * 4
    assert made.temporary_bytes <= 8 * scores
    assert made.peak_bytes < memory_of(tpu) / 100
    assert made.output_bytes >= 2 * queries * k * 4


def test_host_callbacks_are_found(tpu):
    """The control for all of the above: a program that calls the host, and one that does not."""

    def calls(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    x = jax.ShapeDtypeStruct((8,), jnp.float32)
    assert compile_executable(tpu, calls, x)[1].host_callbacks > 0
    assert compile_executable(tpu, jnp.sin, x)[1].host_callbacks == 0


def test_what_exceeds_the_memory_is_refused(tpu):
    x = jax.ShapeDtypeStruct((10**8, 128), jnp.float32)
    with pytest.raises(ExceedsMemoryError, match=rf"{tpu.name}: .*exceeds available"):
        compile_executable(tpu, lambda x: x + 1, x)


@pytest.mark.parametrize("topology", ["v6e:3x5", "v9z:2x2", "nonsense"])
def test_unknown_topologies_are_refused(topology):
    with pytest.raises(InputError, match=rf"libtpu knows no topology '{topology}'"):
        find_target(f"tpu:{topology}")


def test_processes_compile_at_once():
    """libtpu's lock is for chips, which nobody uses here."""
    topology = "tpu:v5e:2x2"
    find_target(topology)  # this process has libtpu too
    program = (
        "import jax.numpy as jnp; from lightgcn_jax.roofline.targets import *;"
        f"compile_for(find_target('{topology}'), jnp.sin, jnp.ones(8))"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert other.returncode == 0, other.stderr
    assert other.stderr == ""


def test_report_for_a_topology(graph):
    found = diffusion_report(graph, backends=("segment", "csr"), target="tpu:v6e:2x2", layers=1)
    assert found.ceilings is None
    assert "TPU v6" in found.device
    assert "no native CSR" in found.storages["csr"].obstacle
    for program in (found.storages["segment"].application, found.storages["segment"].layers):
        assert program.measurement is None
        assert program.executable.scatters


def test_the_command_for_a_topology(capsys):
    arguments = ("diffusion", "report", "--backend", "segment", "--target", "tpu:v5e:2x2")
    assert main([*arguments, "--layers", "1", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    made = printed["storages"]["segment"]["application"]["executable"]
    assert made["scatters"]
    assert made["argument_bytes"] > 0
    assert printed["ceilings"] is None
