"""What each storage promises beside the product: layout, kernels, determinism, memory."""

import itertools
import tracemalloc

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from lightgcn_jax.data import given_split, load_dataset
from lightgcn_jax.diffusion import (
    STORAGES,
    bucketed,
    diffuse,
    diffusion_operator,
    multiscale,
    operator_of,
    segment,
)
from lightgcn_jax.diffusion.bucketed import BucketedStorage, bucket_widths
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph import BipartiteGraph, CsrMatrix, normalized_adjacency
from tests.lightgcn.oracles import materialised
from tests.lightgcn.programs import all_equations, holds
from tests.lightgcn.worlds import csr_of, graph_of, skewed_pairs

ALPHAS = (0.4, 0.3, 0.2, 0.1)
MIXES = list(itertools.product(["float32", "bfloat16"], repeat=2))


def signed_matrix(rows=13, columns=21, density=0.5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < density)


def skewed_operator(backend, **options):
    return diffusion_operator(graph_of(*skewed_pairs(), 10, 24), backend=backend, **options)


@jax.jit
def step(operator, x):
    """Three layers forward and backward."""
    y, pullback = jax.vjp(lambda x: multiscale(operator, x, ALPHAS), x)
    return y, pullback(y)[0]


def table(rows, dim=4, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(0).normal(size=(rows, dim)), dtype)


def test_shape_is_static_and_weights_have_the_type_asked_for(backend):
    matrix = csr_of(signed_matrix())
    for dtype in (jnp.float32, jnp.bfloat16):
        storage = STORAGES[backend].from_csr(matrix, dtype)
        assert storage.shape == (13, 21)
        floats = {leaf.dtype for leaf in jax.tree.leaves(storage) if leaf.dtype.kind in "fV"}
        # CPU kernels take weights in the type of their sums.
        assert floats == {jnp.dtype(jnp.float32 if backend in ("csr", "native") else dtype)}
        for leaf in jax.tree.leaves(storage):
            assert isinstance(leaf, jax.Array)


def test_float16_tables_come_back_in_float16(backend):
    """No kernel of the processor takes them; they are widened for the product."""
    operator = skewed_operator(backend)
    x = table(34, dtype=jnp.float16)
    for function in (diffuse, lambda operator, x: multiscale(operator, x, ALPHAS)):
        y = jax.jit(function)(operator, x)
        assert y.dtype == jnp.float16
        np.testing.assert_allclose(y, function(operator, x.astype(jnp.float32)), atol=4e-3)


def test_weights_are_rounded_to_the_type_asked_for(backend):
    dense = signed_matrix()
    got = materialised(operator_of(csr_of(dense), backend=backend, dtype=jnp.bfloat16))
    expected = jnp.asarray(dense).astype(jnp.bfloat16).astype(jnp.float32)
    np.testing.assert_array_equal(got, expected)


def test_scaling_multiplies_entries_in_csr_order(backend):
    dense = signed_matrix()
    matrix = csr_of(dense)
    factors = np.random.default_rng(1).normal(size=matrix.num_entries).astype(np.float32)
    storage = STORAGES[backend].from_csr(matrix, jnp.float32, rescalable=True)
    scaled = jax.jit(lambda storage, factors: storage.scaled(factors))(storage, factors)
    expected = dense.copy()
    expected[np.nonzero(dense)] *= factors
    np.testing.assert_allclose(scaled.multiply(jnp.eye(21)), expected, rtol=1e-6)


def test_duplicate_edges_are_refused_not_added_up(backend):
    matrix = {"offsets": np.array([0, 2]), "weights": np.ones(2), "num_columns": 3}
    with pytest.raises(InputError, match="sort the rows and add duplicates up first"):
        operator_of(CsrMatrix(columns=np.array([1, 1]), **matrix), backend=backend)
    with pytest.raises(InputError, match="expected each once, got 1 repeated"):
        graph_of(np.array([0, 0]), np.array([1, 1]))


def test_matrices_without_rows_columns_or_entries(backend):
    for shape in ((0, 3), (3, 0), (2, 3)):
        operator = operator_of(csr_of(np.zeros(shape)), backend=backend)
        np.testing.assert_array_equal(diffuse(operator, table(shape[1])), np.zeros((shape[0], 4)))


@pytest.mark.parametrize(
    ("weights", "tables"),
    [*MIXES, ("float64", "float64"), ("float32", "float64"), ("float64", "float32")],
)
def test_csr_keeps_its_native_kernel_whatever_the_types(weights, tables):
    with jax.enable_x64("float64" in (weights, tables)):
        operator = skewed_operator("csr", dtype=weights, normalization="left")
        lowered = step.lower(operator, table(34, dtype=tables))
    # One call in the loop of each direction, and nothing else that touches the edges.
    assert lowered.as_text().count("cpu_csr_sparse_dense") == 2
    compiled = lowered.compile()
    assert "cpu_csr_sparse_dense" in compiled.as_text()
    assert not holds(compiled, "scatter")
    assert not holds(compiled, "gather")


def test_csr_keeps_its_native_kernel_under_vmap():
    operator = skewed_operator("csr")
    tables = jnp.stack([table(34)] * 3)
    compiled = jax.jit(jax.vmap(step, (None, 0))).lower(operator, tables).compile()
    assert "cpu_csr_sparse_dense" in compiled.as_text()
    assert not holds(compiled, "scatter")


def test_segment_works_through_edges_in_chunks(monkeypatch):
    dense = signed_matrix()
    operator, x = operator_of(csr_of(dense), backend="segment"), table(21)
    entries = int((dense != 0).sum())
    for chunk in (1, 7, entries - 1, entries, entries + 1):
        monkeypatch.setattr(segment, "MESSAGE_BYTES", chunk * x.shape[1] * 4)
        multiply = jax.jit(lambda x: operator.storage.multiply(x))
        np.testing.assert_allclose(multiply(x), dense @ x, rtol=1e-5, atol=1e-6)
        widest = max(
            eqn.outvars[0].aval.shape[0]
            for eqn in all_equations(jax.make_jaxpr(multiply)(x).jaxpr)
            if eqn.primitive.name == "gather"
        )
        assert widest == min(chunk, entries)


def test_bucketed_has_no_scatter_and_segment_has():
    for normalization in ("symmetric", "row"):
        for backend, expected in (("bucketed", False), ("segment", True)):
            operator = skewed_operator(backend, normalization=normalization)
            lowered = step.lower(operator, table(34))
            assert ("stablehlo.scatter" in lowered.as_text()) == expected
            assert holds(lowered.compile(), "scatter") == expected


def test_bucketed_dropout_has_no_scatter():
    operator = skewed_operator("bucketed", edge_dropout=True, normalization="row")

    def loss(x, factors):
        fewer = operator.replace(
            storage=operator.storage.scaled(factors), adjoint=operator.adjoint.scaled(factors)
        )
        return (diffuse(fewer, x) ** 2).sum()

    factors = jnp.ones(len(operator.reversal))
    compiled = jax.jit(jax.grad(loss)).lower(table(34), factors).compile()
    assert holds(compiled, "gather")
    assert not holds(compiled, "scatter")


def test_bucketed_is_the_same_bit_for_bit():
    # Numbers of many sizes, so that any other order of a sum would show. Without jit products
    # are rounded before they are added, under it they need not be: two answers, each repeated.
    x = table(34) * 2.0 ** np.random.default_rng(2).integers(-12, 12, (34, 4))
    for function in (step, diffuse):
        first, again = (function(skewed_operator("bucketed"), x) for _ in range(2))
        for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_permuted_sum_would_show():
    # The control of the test above: the same rows in another order of their entries.
    x = table(34) * 2.0 ** np.random.default_rng(2).integers(-12, 12, (34, 4))
    operator = skewed_operator("bucketed")
    (level,) = operator.storage.levels
    turned = tuple(
        bucket.replace(columns=bucket.columns[::-1], weights=bucket.weights[::-1])
        for bucket in level
    )
    other = operator.replace(storage=operator.storage.replace(levels=(turned,)))
    assert (step(operator, x)[0] != step(other, x)[0]).any()


@pytest.mark.parametrize("longest", [2, 3, 5])
def test_rows_in_pieces_add_up(monkeypatch, longest):
    monkeypatch.setattr(bucketed, "LONGEST_PIECE", longest)
    dense = signed_matrix(columns=40)
    dense[0], dense[3] = 1, 0
    matrix = csr_of(dense)
    storage = BucketedStorage.from_csr(matrix, jnp.float32, rescalable=True)
    # Every level divides the longest row by the longest piece, until one piece is left.
    levels, length = 1, int(matrix.lengths.max())
    while length > longest:
        levels, length = levels + 1, -(-length // longest)
    assert len(storage.levels) == levels >= 3
    np.testing.assert_allclose(
        jax.jit(lambda x: storage.multiply(x))(jnp.eye(40)), dense, rtol=1e-6
    )
    factors = np.random.default_rng(1).normal(size=matrix.num_entries).astype(np.float32)
    expected = dense.copy()
    expected[np.nonzero(dense)] *= factors
    scaled = storage.scaled(factors)
    np.testing.assert_allclose(
        jax.jit(lambda x: scaled.multiply(x))(jnp.eye(40)), expected, rtol=1e-6
    )


def test_a_star_of_100_000_takes_three_levels():
    n = 100_000
    star = BipartiteGraph.from_pairs(np.zeros(n, int), np.arange(n), num_users=1, num_items=n)
    storage = BucketedStorage.from_csr(normalized_adjacency(star), jnp.float32)
    assert len(storage.levels) == 3  # 391 pieces of at most 256, then 2, then the row
    assert max(bucket.columns.shape[0] for level in storage.levels for bucket in level) == 256


def test_bucketed_cannot_be_scaled_unless_made_for_it():
    storage = BucketedStorage.from_csr(csr_of(signed_matrix()), jnp.float32)
    assert all(bucket.entries is None for bucket in storage.levels[0])
    with pytest.raises(InputError, match="storage: expected one made with rescalable=True"):
        storage.scaled(jnp.ones(3))


def slots_of(widths, counts):
    """Entries with padding: each row takes the first width that holds it."""
    return sum(
        int(count) * next(width for width in widths if width >= length)
        for length, count in enumerate(counts)
        if count
    )


@given(st.lists(st.integers(0, 30), min_size=0, max_size=7), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_bucket_widths_are_the_best_of_their_number(shorter, longest):
    counts = np.array([0, *shorter, longest])
    widths = bucket_widths(counts)
    assert widths[-1] == len(counts) - 1
    assert (np.diff(widths) > 0).all()
    wanted = bucketed.WANTED_PADDING * (counts * np.arange(len(counts))).sum()

    def best(number):
        others = itertools.combinations(range(1, len(counts) - 1), number - 1)
        return min(slots_of([*chosen, len(counts) - 1], counts) for chosen in others)

    # The fewest that pad little enough, and of that many the ones that pad least.
    assert slots_of(widths, counts) == best(len(widths)) <= wanted
    assert all(best(fewer) > wanted for fewer in range(1, len(widths)))


def test_no_more_buckets_than_the_cap(monkeypatch):
    monkeypatch.setattr(bucketed, "MOST_BUCKETS", 2)
    counts = np.array([0, 8, 4, 2, 2, 1, 1])
    wanted = bucketed.WANTED_PADDING * (counts * np.arange(7)).sum()
    assert slots_of([1, 2, 3, 6], counts) <= wanted < slots_of([2, 6], counts)
    assert slots_of(bucket_widths(counts), counts) == min(
        slots_of([width, 6], counts) for width in range(1, 6)
    )
    assert len(bucket_widths(counts)) == 2


def test_gowalla_is_padded_by_a_quarter_at_most(real_data):
    split = given_split(load_dataset("gowalla", data_dir=real_data, download=False))
    graph = BipartiteGraph.from_pairs(
        split.train.users,
        split.train.items,
        num_users=len(split.users),
        num_items=len(split.items),
    )
    matrix = normalized_adjacency(graph)
    storage = BucketedStorage.from_csr(matrix, jnp.float32)
    in_all = sum(bucket.columns.size for level in storage.levels for bucket in level)
    assert matrix.num_entries <= storage.slots <= in_all <= 1.25 * matrix.num_entries


@pytest.mark.slow
def test_conversion_takes_memory_in_proportion_to_the_entries(backend):
    def peak_bytes(entries):
        """Of the host, for each entry, while a matrix of 64 entries a row on average is stored."""
        rng = np.random.default_rng(0)
        lengths = rng.geometric(1 / 64, entries // 64)
        lengths[0] = entries // 100
        matrix = CsrMatrix(
            np.concatenate([[0], np.cumsum(lengths)]),
            np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
            np.ones(lengths.sum()),
            int(lengths.max()),
        )
        tracemalloc.start()
        storage = STORAGES[backend].from_csr(matrix, jnp.float32, rescalable=True)
        jax.block_until_ready(storage)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak / matrix.num_entries

    few, many = peak_bytes(1_000_000), peak_bytes(10_000_000)
    assert many < 64
    assert many < 1.2 * few + 1
