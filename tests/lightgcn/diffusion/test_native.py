"""The C++ kernels: values beside dense float64, on every instruction set, whatever the threads."""

import functools
import hashlib
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from lightgcn_jax.diffusion import (
    choose_backend,
    diffusion_operator,
    multiscale,
    obstacles,
    operator_of,
)
from lightgcn_jax.diffusion.application import multiply_add
from lightgcn_jax.diffusion.native import (
    LogSumTerms,
    NativeStorage,
    NgcfLayer,
    build,
    library,
    log_sums,
    ngcf_layer,
    ngcf_layer_gradient,
)
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph import CsrMatrix
from tests.lightgcn.oracles import rounding_bound
from tests.lightgcn.programs import holds
from tests.lightgcn.worlds import csr_of, graph_of, skewed_pairs

OBSTACLE = obstacles("cpu")["native"]
compiled_here = pytest.mark.skipif(OBSTACLE is not None, reason=f"native: {OBSTACLE}")
DIMS = (1, 3, 17, 64, 100, 256)
TYPES = ("float32", "bfloat16", "float64")
ROWS, COLUMNS = 23, 31
# Rows 0 and 5 twice, an empty one, the longest one.
LISTED = np.array([5, 0, 5, 0, 7, 2], np.int32)
ALPHAS = (0.4, 0.3, 0.2, 0.1)


def signed_matrix():
    """Numbers with signs; row 7 is empty, row 2 full, column 4 empty but for it."""
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(ROWS, COLUMNS)) * (rng.random((ROWS, COLUMNS)) < 0.3)
    dense[:, 4], dense[7], dense[2] = 0, 0, rng.normal(size=COLUMNS)
    return dense


def table(rows, dim, dtype="float32", seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(rows, dim)), dtype)


def exact(x):
    return np.asarray(x.astype(jnp.float64))


products = jax.jit(
    lambda storage, x, y: (
        storage.multiply(x),
        storage.multiply_add(x, y, -0.5, 3.0),
        storage.multiply_rows(x, LISTED, 0),
        storage.multiply_rows_transposed(y[: len(LISTED)], LISTED, 0),
    )
)


@compiled_here
@pytest.mark.usefixtures("x64", "instructions")
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("weighted", [True, False], ids=["weighted", "ones"])
def test_products_are_the_dense_ones(weighted, kind, dim):
    dense = signed_matrix()
    if not weighted:
        dense = (dense != 0).astype(float)
    storage = NativeStorage.from_csr(csr_of(dense), kind)
    assert len(storage.weights) == (np.count_nonzero(dense) if weighted else 0)
    x, y = table(COLUMNS, dim, kind), table(ROWS, dim, kind, 1)
    found = products(storage, x, y)
    picked = dense[LISTED]
    # An addition is a matrix with one more entry a row.
    wider = np.hstack([-0.5 * dense, 3.0 * np.eye(ROWS)])
    cases = [
        (dense, exact(x)),
        (wider, np.vstack([exact(x), exact(y)])),
        (picked, exact(x)),
        (picked.T, exact(y)[: len(LISTED)]),
    ]
    for result, (matrix, argument) in zip(found, cases, strict=True):
        assert result.dtype == jnp.dtype(kind)
        bound = rounding_bound(matrix, argument, kind, kind)
        assert (np.abs(exact(result) - matrix @ argument) <= bound).all()


@compiled_here
@pytest.mark.usefixtures("x64")
def test_mixed_types_sum_in_the_wider_one():
    dense = signed_matrix()
    for weights, kind in itertools.product(TYPES, TYPES):
        storage = NativeStorage.from_csr(csr_of(dense), weights)
        x = table(COLUMNS, 17, kind)
        bound = rounding_bound(dense, exact(x), weights, kind)
        # Weights of 64 bits are rounded to the type of the sums too.
        bound += rounding_bound(dense, exact(x), "float32", kind) * (weights == "float64")
        assert (np.abs(exact(storage.multiply(x)) - dense @ exact(x)) <= bound).all()


@compiled_here
@pytest.mark.usefixtures("instructions")
def test_a_bfloat16_is_the_nearest_one():
    """Of all float32 upper halves, of what lies between two, and of what is no number."""
    upper = np.arange(2**16, dtype=np.uint32) << 16
    values = np.concatenate([upper, upper + 0x7FFF, upper + 0x8000, upper + 0x8001])
    values = values.view(np.float32).reshape(-1, 64)
    storage = NativeStorage.from_csr(csr_of(np.zeros((len(values), 1))), jnp.bfloat16)
    # 0 · M x + share · onto, with numbers that bfloat16 holds: share is exact, the sum is rounded.
    share = np.float32(1 + 2**-9)
    onto = jnp.asarray(values).astype(jnp.bfloat16)
    got = storage.multiply_add(jnp.zeros((1, 64), jnp.bfloat16), onto, 0.0, share)
    expected = (onto.astype(jnp.float32) * share).astype(jnp.bfloat16)
    np.testing.assert_array_equal(np.isnan(exact32(got)), np.isnan(exact32(expected)))
    np.testing.assert_array_equal(exact32(got), exact32(expected))


def exact32(x):
    return np.asarray(x.astype(jnp.float32))


@compiled_here
@pytest.mark.usefixtures("x64")
def test_offsets_of_64_bits():
    dense, x, y = signed_matrix(), table(COLUMNS, 17), table(ROWS, 17)
    storage = NativeStorage.from_csr(csr_of(dense), jnp.float32)
    wide = storage.replace(offsets=storage.offsets.astype(jnp.int64))
    for one, other in zip(products(storage, x, y), products(wide, x, y), strict=True):
        np.testing.assert_array_equal(one, other)
    assert wide.row_lengths(jnp.asarray(LISTED)).dtype == jnp.int32


@compiled_here
def test_rows_out_of_range_are_the_nearest_as_when_jax_reads_a_table():
    dense, x = signed_matrix(), table(COLUMNS, 17)
    storage = NativeStorage.from_csr(csr_of(dense), jnp.float32)
    got = storage.multiply_rows(x, jnp.array([-3, ROWS + 5, 2**31 - 1], jnp.int32), 0)
    np.testing.assert_allclose(got, (dense @ exact32(x))[[0, -1, -1]], rtol=1e-5, atol=1e-6)


@compiled_here
def test_matrices_without_rows_columns_or_entries():
    for rows, columns in ((0, 3), (3, 0), (2, 3)):
        storage = NativeStorage.from_csr(csr_of(np.zeros((rows, columns))), jnp.float32)
        x, y = table(columns, 4), table(rows, 4)
        listed = jnp.zeros(min(1, rows), jnp.int32)
        np.testing.assert_array_equal(storage.multiply(x), jnp.zeros((rows, 4)))
        np.testing.assert_array_equal(storage.multiply_add(x, y, 2.0, 3.0), 3 * y)
        np.testing.assert_array_equal(storage.multiply_rows(x, listed, 0), 0 * y[listed])
        back = storage.multiply_rows_transposed(y[listed], listed, 0)
        np.testing.assert_array_equal(back, jnp.zeros((columns, 4)))
        assert storage.multiply(x[:, :0]).shape == (rows, 0)


@functools.cache
def large_matrix(rows=40_000, columns=9_000):
    """Enough work for many tasks, enough rows to be written past the caches, one long row."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 16, rows)
    lengths[rows // 3] = columns
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    steps = [rng.integers(1, 1 + columns // 16, length) for length in lengths]
    steps[rows // 3] = np.ones(columns, int)
    places = np.concatenate([np.cumsum(row) - 1 for row in steps])
    return CsrMatrix(offsets, places, rng.normal(size=offsets[-1]), columns)


@compiled_here
@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("dim", [64, 72])
def test_a_large_product(dim):
    matrix, x = large_matrix(), table(9_000, dim)
    listed = np.random.default_rng(1).integers(0, matrix.shape[0], 5_000).astype(np.int32)
    storage, whole = NativeStorage.from_csr(matrix, jnp.float32), matrix.as_scipy()
    picked = whole[listed]
    y = table(5_000, dim, seed=1)
    found = [
        (storage.multiply(x), whole, x),
        (storage.multiply_rows(x, listed, 0), picked, x),
        (storage.multiply_rows_transposed(y, listed, 0), scipy.sparse.csr_array(picked.T), y),
    ]
    for result, product, argument in found:
        expected = product @ exact32(argument).astype(float)
        largest = abs(product) @ abs(exact32(argument).astype(float))
        assert (abs(exact32(result) - expected) <= 1e-5 * largest + 1e-12).all()


SMALL = """
import hashlib, os, sys
sys.path.insert(0, "{root}")
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{cores}])
from tests.lightgcn.diffusion.test_native import digest
print(digest())
"""


def digest():
    """Of all products of a large matrix, a layer of NGCF and a softmax, bit by bit."""
    matrix, x = large_matrix(), table(9_000, 64)
    listed = jnp.arange(0, 40_000, 7, dtype=jnp.int32)
    storage = NativeStorage.from_csr(matrix, jnp.float32)
    found = [
        storage.multiply(x),
        storage.multiply(x.astype(jnp.bfloat16)),
        storage.multiply_rows(x, listed, 0),
        storage.multiply_rows_transposed(table(len(listed), 64), listed, 0),
    ]
    layer = NgcfLayer(x, table(9_000, 64, seed=1), table(64, 64), table(64, 64, seed=1))
    output = ngcf_layer(layer, 0.2)
    found += [output, *ngcf_layer_gradient(layer, output, x, 0.2)]
    terms = LogSumTerms(x, table(300, 64), jnp.zeros(300), jnp.zeros(9_000))
    found += jax.tree.leaves(
        log_sums(terms, x[:, :1] < jnp.linspace(-1, 1, 300)[None], jnp.ones(9_000))
    )
    return hashlib.sha256(b"".join(np.asarray(one).tobytes() for one in found)).hexdigest()


@compiled_here
def test_the_same_bits_whatever_the_threads():
    root = Path(__file__).parents[3]
    found = {digest(), digest()}
    # This process has them all.
    for cores in {1, 2} - {len(os.sched_getaffinity(0))}:
        code = SMALL.format(root=root, cores=cores)
        ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        found.add(ended.stdout.decode().strip())
    assert len(found) == 1


@jax.jit
def step(operator, x):
    """Three layers forward and backward."""
    y, pullback = jax.vjp(lambda x: multiscale(operator, x, ALPHAS), x)
    return y, pullback(y)[0]


def skewed_operator(**options):
    return diffusion_operator(graph_of(*skewed_pairs(), 10, 24), backend="native", **options)


@compiled_here
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_an_application_is_one_call_and_nothing_else_touches_the_edges(kind):
    compiled = step.lower(skewed_operator(dtype=kind), table(34, 4, kind)).compile()
    text = compiled.as_text()
    assert text.count('custom_call_target="lightgcn_jax_native_multiply_add"') == 2 * 3
    assert not holds(compiled, "scatter")
    assert not holds(compiled, "gather")


@compiled_here
def test_many_layers_are_a_loop():
    operator, alphas = skewed_operator(), np.full(42, 1 / 42)
    lowered = jax.jit(multiscale).lower(operator, table(34, 4), alphas)
    assert lowered.as_text().count("lightgcn_jax_native_multiply_add") < 20


@compiled_here
def test_tables_under_vmap_are_one_wider_call():
    operator, tables = skewed_operator(), jnp.stack([table(34, 4, seed=seed) for seed in range(3)])
    compiled = jax.jit(jax.vmap(step, (None, 0))).lower(operator, tables).compile()
    assert compiled.as_text().count("lightgcn_jax_native_multiply_add") >= 6
    assert "f32[34,12]" in compiled.as_text()
    for found, one in zip(compiled(operator, tables)[1], tables, strict=True):
        np.testing.assert_allclose(found, step(operator, one)[1], rtol=1e-6)


@compiled_here
def test_vmap_of_additions_is_a_loop():
    """Over either table, over factors, over matrices that differ in their weights."""
    operator = skewed_operator()
    storages = operator.storage.replace(weights=jnp.outer(jnp.arange(2), operator.storage.weights))
    weights = NativeStorage(None, None, 0, operator.shape)
    two, one = jnp.stack([table(34, 4), table(34, 4, seed=1)]), table(34, 4, seed=2)
    factors = jnp.array([0.5, 2.0])
    cases = [
        ((None, 0, None, None, None), (operator.storage, two, one, 0.5, 2.0)),
        ((None, None, 0, None, None), (operator.storage, one, two, 0.5, 2.0)),
        ((None, 0, 0, None, None), (operator.storage, two, two, 0.5, 2.0)),
        ((None, None, None, 0, None), (operator.storage, one, one, factors, 2.0)),
        ((weights, None, 0, None, 0), (storages, one, two, 0.5, factors)),
    ]
    for axes, arguments in cases:
        found = jax.vmap(multiply_add, axes)(*arguments)
        for number in range(2):
            chosen = [
                argument if axis is None
                else argument.replace(weights=argument.weights[number]) if axis is weights
                else argument[number]
                for argument, axis in zip(arguments, axes, strict=True)
            ]  # fmt: skip
            np.testing.assert_allclose(found[number], multiply_add(*chosen), rtol=1e-6)


@compiled_here
def test_rows_under_vmap_come_in_turn():
    storage = NativeStorage.from_csr(csr_of(signed_matrix()), jnp.float32)
    tables, rows = jnp.stack([table(COLUMNS, 4), table(COLUMNS, 4, seed=1)]), np.stack([LISTED] * 2)
    rows[1] += 1
    found = jax.jit(jax.vmap(lambda x, rows: storage.multiply_rows(x, rows, 0)))(tables, rows)
    for one, x, listed in zip(found, tables, rows, strict=True):
        np.testing.assert_array_equal(one, storage.multiply_rows(x, jnp.asarray(listed), 0))


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec as P
from tests.lightgcn.diffusion.test_native import skewed_operator, step, table

operator, x = skewed_operator(), table(34, 8)
mesh = jax.make_mesh((2,), ("columns",), axis_types=(jax.sharding.AxisType.Auto,))
by_column = P(None, "columns")
sharded = jax.jit(jax.shard_map(
    step, mesh=mesh, in_specs=(P(), by_column), out_specs=by_column, check_vma=False))
compiled = sharded.lower(operator, x).compile()
assert "lightgcn_jax_native_multiply_add" in compiled.as_text()
assert "f32[34,4]" in compiled.as_text()
for found, expected in zip(compiled(operator, x), step(operator, x), strict=True):
    assert len(found.sharding.device_set) == 2
    np.testing.assert_allclose(found, expected, rtol=1e-6)
"""


@compiled_here
def test_columns_on_two_devices():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, [Path(__file__).parents[3], *sys.path]))
    subprocess.run([sys.executable, "-c", SHARDED], check=True, env=environment)


@compiled_here
def test_weights_that_were_left_out_cannot_be_scaled():
    ones = csr_of((signed_matrix() != 0).astype(float))
    storage = NativeStorage.from_csr(ones, jnp.float32)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(storage)) == 4 * (ones.num_entries + 24)
    with pytest.raises(InputError, match="storage: expected one made with rescalable=True"):
        storage.scaled(jnp.ones(ones.num_entries))
    kept = NativeStorage.from_csr(ones, jnp.float32, rescalable=True)
    np.testing.assert_array_equal(kept.multiply(jnp.eye(COLUMNS)), ones.as_scipy().toarray())


@compiled_here
def test_arrays_that_do_not_fit_are_refused_by_the_kernel():
    storage = NativeStorage.from_csr(csr_of(signed_matrix()), jnp.float32)
    x = table(COLUMNS, 4)
    with pytest.raises(jax.errors.JaxRuntimeError, match="weights: expected one for each entry"):
        jax.block_until_ready(storage.replace(weights=storage.weights[:-1]).multiply(x))
    with pytest.raises(jax.errors.JaxRuntimeError, match="columns: expected int32"):
        jax.block_until_ready(
            storage.replace(columns=storage.columns.astype(jnp.uint32)).multiply(x)
        )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the library is looked for."""
    monkeypatch.setattr(library, "_FOLDER", tmp_path)
    library.load.cache_clear()
    yield tmp_path
    library.load.cache_clear()


@pytest.mark.usefixtures("folder")
def test_without_the_library_others_are_taken_and_the_obstacle_says_what_to_do():
    reason = obstacles("cpu")["native"]
    assert "were not compiled" in reason
    assert "install a C++17 compiler" in reason
    assert choose_backend("auto", "cpu").name == "csr"
    with pytest.raises(InputError, match=r"native can't run on cpu: its C\+\+ kernels were not"):
        operator_of(csr_of(signed_matrix()), backend="native")
    with pytest.raises(RuntimeError, match="were not compiled"):
        library.limit_instructions()


def test_a_library_that_does_not_fit_is_an_obstacle(folder):
    (folder / f"_kernels{library.EXTENSION_SUFFIXES[0]}").write_text("no library")
    assert "do not fit this system" in obstacles("cpu")["native"]
    assert choose_backend("auto", "cpu").name == "csr"


def test_other_platforms_have_no_kernels():
    assert (
        obstacles("gpu")["native"] == obstacles("tpu")["native"] == "its kernels are for CPUs only"
    )


SANITIZED = """
import sys
from pathlib import Path
import pytest
from lightgcn_jax.diffusion.native import library

library._FOLDER = Path(sys.argv[1])
sys.exit(pytest.main([*sys.argv[2:], "-n", "0", "-s", "-p", "no:cacheprovider", "-k",
    "products or large or range or without_rows or 64_bits or ngcf or equation"]))
"""


def path_of(name):
    command = ["g++", f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()


@compiled_here
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_sanitizers_find_nothing(tmp_path):
    source = Path(library.__file__).parent / "kernels.cc"
    target = tmp_path / f"_kernels{library.EXTENSION_SUFFIXES[0]}"
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-O1", "-g"]
    command = ["g++", *build.FLAGS, *sanitize, "-shared", "-fPIC"]
    command += ["-isystem", build.header_folder(), source, "-o", target]
    subprocess.run(command, check=True)
    environment = os.environ | {
        # The second for the exceptions of what was linked to it before.
        "LD_PRELOAD": f"{path_of('libasan.so')}:{path_of('libstdc++.so.6')}",
        # What Python and JAX hold until they end is none of our business.
        "ASAN_OPTIONS": "detect_leaks=0",
    }
    others = ("test_largest.py", "test_ngcf_layer.py", "test_softmax.py")
    files = __file__, *(Path(__file__).with_name(name) for name in others)
    command = [sys.executable, "-c", SANITIZED, tmp_path, *files]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]
    assert " passed" in ended.stdout
