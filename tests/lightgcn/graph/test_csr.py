import numpy as np
import pytest
from hypothesis import given, settings

from lightgcn_jax.errors import InputError
from lightgcn_jax.graph import CsrMatrix
from tests.lightgcn.oracles import dense_interactions
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, csr_of, pair_sets


def matrix(offsets=(0, 2, 2, 3), columns=(1, 3, 0), weights=(1.5, -2.0, 0.5), num_columns=4):
    """[[0, 1.5, 0, -2], [0, 0, 0, 0], [0.5, 0, 0, 0]], or that with another field."""
    return CsrMatrix(
        np.asarray(offsets, np.int64),
        np.asarray(columns),
        np.asarray(weights, np.float32),
        num_columns,
    )


def test_fields_are_kept_in_one_kind_of_number():
    got = matrix()
    assert (got.offsets.dtype, got.columns.dtype, got.weights.dtype) == (
        np.int32,
        np.int32,
        np.float64,
    )
    assert (got.shape, got.num_entries, got.lengths.tolist()) == ((3, 4), 3, [2, 0, 1])
    dense = [[0, 1.5, 0, -2], [0, 0, 0, 0], [0.5, 0, 0, 0]]
    np.testing.assert_array_equal(got.as_scipy().toarray(), dense)


@given(pair_sets())
@settings(max_examples=30, deadline=None)
def test_transposing_is_the_dense_transpose_and_its_own_inverse(pairs):
    weights = np.arange(1, len(pairs[0]) + 1)
    dense = dense_interactions(*pairs, NUM_USERS, NUM_ITEMS)
    dense[pairs] = weights
    flipped = csr_of(dense).transposed()
    assert flipped.shape == (NUM_ITEMS, NUM_USERS)
    np.testing.assert_array_equal(flipped.as_scipy().toarray(), dense.T)
    back = flipped.transposed()
    for field in ("offsets", "columns", "weights"):
        np.testing.assert_array_equal(getattr(back, field), getattr(csr_of(dense), field))


def test_an_explicit_zero_is_an_entry():
    got = matrix(weights=(0.0, 1.0, 0.0))
    assert got.num_entries == got.transposed().num_entries == 3


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_matrices_without_rows_or_columns(shape):
    got = csr_of(np.zeros(shape))
    assert got.shape == shape
    assert got.transposed().shape == shape[::-1]


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"columns": (1, 4, 0)}, r"columns: expected ids in \[0, 4\), got values from 0 to 4"),
        ({"columns": (1, -1, 0)}, r"columns: expected ids in \[0, 4\), got values from -1 to 1"),
        ({"columns": (3, 1, 0)}, r"strictly increasing ids within a row, got 3 before 1 in row 0"),
        ({"columns": (3, 3, 0)}, r"got 3 before 3 in row 0; sort the rows and add duplicates up"),
        ({"offsets": (0, 1, 1, 3)}, r"got 3 before 0 in row 2"),
        ({"offsets": (0, 3, 2, 3)}, r"offsets: expected non-decreasing .* got 3 before 2 at row 1"),
        ({"offsets": (0, -1, 2, 3)}, r"offsets: expected non-decreasing .* 0 before -1 at row 0"),
        ({"offsets": (1, 2, 2, 3)}, r"offsets: expected to run from 0 to 3 entries, got 1 and 3"),
        ({"offsets": (0, 2, 2, 2)}, r"offsets: expected to run from 0 to 3 entries, got 0 and 2"),
        ({"offsets": ()}, r"offsets: expected to run from 0 to 3 entries, got none"),
        ({"weights": (1.0, NAN, 1.0)}, r"weights: expected finite numbers, got nan at entry 1"),
        ({"weights": (1.0, 1.0, -INF)}, r"weights: expected finite numbers, got -inf at entry 2"),
        ({"weights": (1.0, 1.0)}, r"columns and weights: expected equal lengths, got 3 and 2"),
        ({"columns": (1.0, 3.0, 0.0)}, r"columns: expected a one-dim.* integer type, got float64"),
        ({"columns": ((1, 3, 0),)}, r"columns: expected a one-dim.* integer type, got int64\[1, 3"),
        ({"num_columns": -1}, r"num_columns: expected an integer ≥ 0, got -1"),
        ({"num_columns": 4.0}, r"num_columns: expected an integer ≥ 0, got 4.0"),
        ({"num_columns": 2**31}, r"counted in 32 bits, got 3, 2,147,483,648 and 3"),
    ],
)
def test_broken_matrices_are_refused(changed, message):
    with pytest.raises(InputError, match=message):
        matrix(**changed)


def test_lists_and_weights_of_another_kind_are_refused():
    offsets, columns = np.array([0, 1]), np.array([0])
    with pytest.raises(InputError, match=r"weights: expected .* floating-point type, got int64"):
        CsrMatrix(offsets, columns, np.array([1]), 1)
    with pytest.raises(InputError, match=r"columns: expected a one-dimensional NumPy array.*list"):
        CsrMatrix(offsets, [0], np.array([1.0]), 1)
