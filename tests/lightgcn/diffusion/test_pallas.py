"""The Pallas kernels: interpreted, lowered for GPU, compiled for TPU where libtpu is at hand."""

import contextlib
import dataclasses
import importlib.util
import re
import subprocess
import sys

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from lightgcn_jax.diffusion import multiscale, pallas
from lightgcn_jax.diffusion.operator import Operator, diffuse
from lightgcn_jax.diffusion.pallas import GROUP, PallasStorage
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.csr import CsrMatrix
from lightgcn_jax.roofline.targets import compile_for, find_target

# Rows' lengths, in any order: with pieces of at most 4 entries a row of 17 needs three levels, and
# whatever the order, the compiled shapes are the same.
LENGTHS = (0, 0, 1, 1, 1, 2, 2, 3, 4, 4, 5, 8, 9, 17)
ROWS, COLUMNS, DIM = len(LENGTHS), 19, 5
ALPHAS = (0.5, 0.3, 0.2)

kernels = pytest.mark.parametrize("kernel", ["gpu", "tpu"])


@pytest.fixture(autouse=True, scope="module")
def short_pieces():
    """Pieces and steps so short that small matrices have several of each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pallas, "LONGEST_PIECE", 4)
        patch.setattr(pallas, "STEP_TILES", 8)
        yield


@st.composite
def matrices(draw):
    lengths = draw(st.permutations(LENGTHS))
    return random_matrix(lengths, draw(st.integers(0, 2**32 - 1)))


def random_matrix(lengths, seed, num_columns=COLUMNS):
    rng = np.random.default_rng(seed)
    rows = [np.sort(rng.permutation(num_columns)[:length]) for length in lengths]
    columns = np.concatenate(rows).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return CsrMatrix(offsets, columns, rng.normal(size=len(columns)), num_columns)


def dense(matrix):
    return matrix.as_scipy().toarray()


def table(seed=0, rows=COLUMNS, dim=DIM, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=(rows, dim)).astype(dtype)


def interpreted(matrix, kernel, dtype=jnp.float32, **keywords):
    storage = PallasStorage.from_csr(matrix, dtype, **keywords)
    return dataclasses.replace(storage, interpret=kernel)


@jax.jit
def apply(storage, x):
    return storage.multiply(x)


@given(matrix=matrices())
@settings(max_examples=50, deadline=None)
def test_tiles_hold_each_entry_once_and_little_else(matrix):
    storage = PallasStorage.from_csr(matrix, jnp.float32, rescalable=True)
    assert storage.shape == matrix.shape
    level, entries = storage.levels[0], np.asarray(storage.entries)
    used = entries < matrix.num_entries
    np.testing.assert_array_equal(np.sort(entries[used]), np.arange(matrix.num_entries))
    np.testing.assert_array_equal(np.asarray(level.stream)[used], matrix.columns[entries[used]])
    np.testing.assert_allclose(np.asarray(level.weights)[used], matrix.weights[entries[used]])
    assert not np.asarray(level.weights)[~used].any()

    targets = []
    for each in storage.levels:
        starts, stream = np.asarray(each.tile_starts), np.asarray(each.stream).reshape(-1, GROUP)
        ends = stream[starts[1:] - 1]
        assert starts[-1] == each.num_tiles <= len(stream)
        assert (np.delete(stream[: each.num_tiles], starts[1:] - 1, axis=0) >= 0).all()
        targets.append(~ends.ravel())
    targets = np.concatenate(targets)
    everywhere = np.arange(ROWS + storage.num_pieces)
    np.testing.assert_array_equal(np.sort(targets[targets < everywhere.size]), everywhere)
    padding = (level.num_tiles - level.num_groups) * GROUP - matrix.num_entries
    assert 0 <= padding <= (GROUP - 1) * pallas.LONGEST_PIECE


@kernels
@given(matrix=matrices())
@settings(max_examples=15, deadline=None)
def test_product_is_the_dense_product(kernel, matrix):
    x = table()
    y = apply(interpreted(matrix, kernel), x)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, dense(matrix) @ x, rtol=2e-6, atol=5e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "dtype"),
    [
        ("gpu", jnp.bfloat16),
        ("tpu", jnp.float32),
        pytest.param("gpu", jnp.float32, marks=pytest.mark.slow),
        pytest.param("tpu", jnp.bfloat16, marks=pytest.mark.slow),
    ],
)
def test_bfloat16_tables_are_summed_in_float32(kernel, dtype):
    matrix = random_matrix(LENGTHS, 1)
    storage = interpreted(matrix, kernel, dtype)
    x = jnp.asarray(table(), jnp.bfloat16)
    y = apply(storage, x)
    assert y.dtype == jnp.bfloat16
    rounded = np.asarray(jnp.asarray(matrix.weights, dtype), np.float64)
    exact = dense(dataclasses.replace(matrix, weights=rounded)) @ np.asarray(x, np.float64)
    magnitudes = dense(dataclasses.replace(matrix, weights=abs(rounded))) @ abs(np.float64(x))
    # One rounding of the result, and sums of at most 17 products in float32.
    bound = 2.0**-8 * abs(exact) + 18 * 2.0**-24 * magnitudes
    assert (abs(np.asarray(y, np.float64) - exact) <= bound).all()


@pytest.mark.slow
@kernels
def test_float64_is_summed_in_float64(kernel):
    matrix = random_matrix(LENGTHS, 2)
    with jax.enable_x64(True):
        x = table(dtype=np.float64)
        y = apply(interpreted(matrix, kernel, jnp.float64), x)
        assert y.dtype == jnp.float64
        np.testing.assert_allclose(y, dense(matrix) @ x, rtol=1e-13, atol=1e-13)


@pytest.mark.slow
@kernels
def test_tables_wider_than_a_block(kernel, monkeypatch):
    for module in ("lightgcn_jax.diffusion.pallas_gpu", "lightgcn_jax.diffusion.pallas_tpu"):
        monkeypatch.setattr(importlib.import_module(module), "_WIDEST_BLOCK", 128)
    matrix = random_matrix(LENGTHS, 3)
    x = table(dim=200)
    y = jax.jit(lambda storage, x: storage.multiply(x))(interpreted(matrix, kernel), x)
    np.testing.assert_allclose(y, dense(matrix) @ x, rtol=2e-6, atol=5e-6)


@kernels
@pytest.mark.parametrize("lengths", [(0, 1), (0, 0), (), (3,)])
def test_almost_nothing(kernel, lengths):
    matrix = random_matrix(lengths, 4, num_columns=3) if lengths else empty_matrix(3)
    x = table(rows=3)
    y = apply(interpreted(matrix, kernel), x)
    assert y.shape == (len(lengths), DIM)
    np.testing.assert_allclose(y, dense(matrix) @ x, rtol=1e-6, atol=1e-6)


def empty_matrix(num_columns):
    return CsrMatrix(np.zeros(1, np.int32), np.zeros(0, np.int32), np.zeros(0), num_columns)


@pytest.mark.slow
@kernels
def test_star_of_degree_100_000(kernel, monkeypatch):
    # The pieces' true length: one row, three levels, its answer n / √n.
    monkeypatch.setattr(pallas, "LONGEST_PIECE", 128)
    monkeypatch.setattr(pallas, "STEP_TILES", 512)
    n = 100_000
    matrix = CsrMatrix(
        np.array([0, n], np.int32), np.arange(n, dtype=np.int32), np.full(n, n**-0.5), n
    )
    storage = interpreted(matrix, kernel)
    assert len(storage.levels) == 3
    y = jax.jit(lambda storage, x: storage.multiply(x))(storage, np.ones((n, 1), np.float32))
    np.testing.assert_allclose(y, [[n**0.5]], rtol=1e-5)


@kernels
def test_an_entry_of_weight_zero_is_not_there(kernel):
    matrix = random_matrix(LENGTHS, 5)
    weights = np.where(matrix.columns == 7, 0.0, matrix.weights)
    assert (weights == 0).any()
    x = table()
    x[7] = np.nan
    y = apply(interpreted(dataclasses.replace(matrix, weights=weights), kernel), x)
    x[7] = 0.0
    np.testing.assert_allclose(y, dense(matrix) @ x, rtol=2e-6, atol=5e-6)


@kernels
def test_scaled_multiplies_each_entry_by_its_factor(kernel):
    matrix = random_matrix(LENGTHS, 6)
    factors = np.random.default_rng(0).normal(size=matrix.num_entries).astype(np.float32)
    x = table()
    storage = interpreted(matrix, kernel, rescalable=True)
    y = apply(storage.scaled(jnp.asarray(factors)), x)
    expected = dense(dataclasses.replace(matrix, weights=matrix.weights * factors)) @ x
    np.testing.assert_allclose(y, expected, rtol=2e-6, atol=5e-6)
    with pytest.raises(InputError, match="rescalable=True"):
        interpreted(matrix, kernel).scaled(jnp.asarray(factors))


@kernels
def test_several_factors_under_vmap_share_the_matrix(kernel):
    matrix = random_matrix(LENGTHS, 6)
    factors = np.random.default_rng(0).normal(size=(2, matrix.num_entries)).astype(np.float32)
    storage, x = interpreted(matrix, kernel, rescalable=True), jnp.asarray(table())
    ys = jax.vmap(lambda each: diffuse(Operator(storage.scaled(each)), x))(jnp.asarray(factors))
    for y, each in zip(ys, factors, strict=True):
        np.testing.assert_allclose(y, apply(storage.scaled(jnp.asarray(each)), x), rtol=1e-6)


def square_operator(kernel=None):
    """Not symmetric; with its transpose."""
    matrix = random_matrix((*LENGTHS, 0, 1, 2, 3, 6), 7)
    storages = [PallasStorage.from_csr(each, np.float32) for each in (matrix, matrix.transposed())]
    return Operator(*(dataclasses.replace(each, interpret=kernel) for each in storages)), matrix


@kernels
def test_gradients_of_several_tables_apply_the_transpose(kernel):
    operator, matrix = square_operator(kernel)
    tables = np.stack([table(seed, dim=2) for seed in range(2)])
    cotangent = table(9, dim=2)

    def loss(x):
        return (multiscale(operator, x, ALPHAS) * cotangent).sum()

    gradients = jax.jit(jax.vmap(jax.grad(loss)))(jnp.asarray(tables))
    powers = [np.linalg.matrix_power(dense(matrix).T, k) for k in range(len(ALPHAS))]
    expected = sum(alpha * power @ cotangent for alpha, power in zip(ALPHAS, powers, strict=True))
    for gradient in gradients:
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5)


def wide_loss(operator, tables):
    def loss(x):
        return (multiscale(operator, x, ALPHAS) ** 2).sum()

    return jax.vmap(jax.value_and_grad(loss))(tables)


@contextlib.contextmanager
def absent_device(device):
    """Lower kernels for a device that is not here: JAX asks for its kind."""
    mesh = jax.sharding.AbstractMesh((), (), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        yield


@contextlib.contextmanager
def absent_gpu():
    with contextlib.ExitStack() as stack:
        if jax.__version_info__ >= (0, 11):
            # Up to 0.10 there was a fallback, and no name for the device.
            device = jax.sharding.AbstractDevice("NVIDIA H200", num_cores=None, platform="gpu")
            stack.enter_context(absent_device(device))
            stack.enter_context(pytest.warns(DeprecationWarning, match="Pallas Triton"))
        yield


@pytest.mark.parametrize(
    ("dtype", "wide_types"), [(jnp.float32, False), (jnp.bfloat16, False), (jnp.float64, True)]
)
def test_gpu_programs_call_triton_and_scatter_nothing(dtype, wide_types):
    operator, _ = square_operator()
    with absent_gpu(), jax.enable_x64(wide_types):
        tables = jax.ShapeDtypeStruct((2, COLUMNS, DIM), dtype)
        lowered = jax.jit(wide_loss).trace(operator, tables).lower(lowering_platforms=("cuda",))
    text = lowered.as_text()
    # One loop over the layers forward and one backward: a kernel call each for every level.
    levels = [*operator.storage.levels, *operator.adjoint.levels]
    assert text.count("__gpu$xla.gpu.triton") == len(levels)
    assert "scatter" not in text
    assert "tpu_custom_call" not in text


def test_gpu_kernel_reads_and_writes_in_place():
    """Its program is the kernel calls alone: no table is padded, copied or reordered."""
    storage = PallasStorage.from_csr(random_matrix(LENGTHS, 8), jnp.float32)
    x = jax.ShapeDtypeStruct((COLUMNS, 64), jnp.float32)
    with absent_gpu():
        lowered = (
            jax.jit(lambda s, x: s.multiply(x))
            .trace(storage, x)
            .lower(lowering_platforms=("cuda",))
        )
    operations = {
        word.split("(")[0].strip('"')
        for line in lowered.as_text().splitlines()
        for word in line.split()
        if word.strip('"').startswith("stablehlo.")
    }
    assert operations == {
        f"stablehlo.{name}" for name in ("case", "constant", "custom_call", "return")
    }


needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu to compile for TPU"
)


@pytest.fixture(scope="module", params=["v5e:2x2", "v6e:2x2"])
def tpu(request):
    return find_target(f"tpu:{request.param}")


@needs_libtpu
@pytest.mark.parametrize(("dim", "dtype"), [(64, jnp.float32), (100, jnp.bfloat16)])
def test_tpu_programs_compile_to_the_kernel_alone(tpu, monkeypatch, dim, dtype):
    # Blocks of scalar memory have a least size.
    monkeypatch.setattr(pallas, "STEP_TILES", 512)
    storage = PallasStorage.from_csr(random_matrix(LENGTHS, 8), dtype)
    x = jax.ShapeDtypeStruct((COLUMNS, dim), dtype)
    compiled = compile_for(tpu, lambda storage, x: storage.multiply(x), storage, x)
    text = compiled.as_text()
    assert text.count('custom_call_target="tpu_custom_call"') == len(storage.levels)
    # Instructions, not text: names of Python functions stand in it too, this test's among them.
    assert not {"scatter", "gather", "while", "sort"} & set(re.findall(r"([a-z][a-z-]*)\(%", text))
    assert "callback" not in text
    # The levels complete one table in place: at most it and the padded x beside the result.
    padded = 128 * 4 * (COLUMNS + ROWS + storage.num_pieces + 16)
    assert compiled.memory_analysis().temp_size_in_bytes <= padded


@pytest.mark.slow
@pytest.mark.parametrize("waiting", [True, False])
def test_tpu_kernel_waits_for_its_copies(waiting, monkeypatch):
    """On a simulated TPU whose copies arrive only when waited for and whose memory starts as NaN.

    Without the waits, the positive control, NaN are read.
    """
    from jax.experimental.pallas import tpu as pltpu

    from lightgcn_jax.diffusion import pallas_tpu

    monkeypatch.setattr(pallas_tpu, "_IN_FLIGHT", 3)
    monkeypatch.setattr(pallas_tpu, "_OUTGOING", 2)
    if not waiting:
        monkeypatch.setattr(pallas_tpu, "_wait", lambda *_: None)
    matrix, x = random_matrix(LENGTHS, 9), table()
    storage = PallasStorage.from_csr(matrix, jnp.float32)
    simulator = pltpu.InterpretParams(
        dma_execution_mode="on_wait", uninitialized_memory="nan", detect_races=True
    )
    with pltpu.force_tpu_interpret_mode(simulator):
        y = np.asarray(jax.jit(lambda *operands: pallas_tpu.product(*operands))(storage, x))
    if waiting:
        np.testing.assert_allclose(y, dense(matrix) @ x, rtol=2e-6, atol=5e-6)
    else:
        assert np.isnan(y).any()


def test_the_cpu_has_no_kernel_and_the_storage_says_so():
    assert "interpreter" in PallasStorage.obstacle("cpu")
    assert PallasStorage.obstacle("gpu") is None
    assert PallasStorage.obstacle("tpu") is None
    storage = PallasStorage.from_csr(random_matrix(LENGTHS, 1), jnp.float32)
    with pytest.raises(NotImplementedError, match="cpu"):
        storage.multiply(jnp.asarray(table()))


@pytest.mark.parametrize(("platform", "part"), [("gpu", "triton"), ("tpu", "tpu")])
def test_a_jax_without_the_platforms_part_is_reported(platform, part, monkeypatch):
    monkeypatch.setitem(sys.modules, f"jax.experimental.pallas.{part}", None)
    monkeypatch.delitem(sys.modules, f"lightgcn_jax.diffusion.pallas_{platform}", raising=False)
    assert f"lacks what the kernel for {platform} needs" in PallasStorage.obstacle(platform)


def test_pallas_is_imported_only_when_a_product_needs_it():
    program = "import sys, lightgcn_jax; print('jax.experimental.pallas' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.strip() == "False", run.stderr
