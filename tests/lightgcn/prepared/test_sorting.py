"""Sorting on disk against sorting in memory."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgcn_jax.prepared import codes
from lightgcn_jax.prepared.sorting import KEY, merged, write_run
from lightgcn_jax.prepared.stored_columns import write_column

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2**31 - 1)), max_size=30)


@settings(max_examples=40, deadline=None)
@given(st.lists(PAIRS, min_size=1, max_size=4), st.integers(1, 40))
def test_blocks_are_the_sorted_rows_cut_between_users(tmp_path_factory, chunks, size):
    """Of equal keys the rows of an earlier run come first, as a stable sort has it."""
    folder, runs, keys, marks = tmp_path_factory.mktemp("runs"), [], [], []
    for at, pairs in enumerate(chunks):
        key = np.array([user << 32 | item for user, item in pairs], np.int64)
        mark = np.arange(len(key), dtype=np.float64) + 100 * at
        order = np.argsort(key, kind="stable")
        runs.append(write_run(folder, str(at), {KEY: key[order], "mark": mark[order]}))
        keys.append(key)
        marks.append(mark)
    blocks = [*merged(runs, size)]
    every, order = np.concatenate(keys), np.argsort(np.concatenate(keys), kind="stable")
    found = [
        np.concatenate([np.zeros(0), *(one[name] for one in blocks)]) for name in (KEY, "mark")
    ]
    np.testing.assert_array_equal(found[0], every[order])
    np.testing.assert_array_equal(found[1], np.concatenate(marks)[order])
    users = [set(block[KEY] >> 32) for block in blocks]
    assert sum(map(len, users)) == len(set(every >> 32))  # No user is in two blocks.


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30),
    st.data(),
)
def test_the_number_at_a_rank_is_found_by_its_digits(tmp_path_factory, numbers, data):
    rank = data.draw(st.integers(0, len(numbers) - 1))
    column = write_column(tmp_path_factory.mktemp("column") / "numbers", np.array(numbers))
    number, below = codes._kth(column, rank, size=7)
    assert number == sorted(numbers)[rank]
    assert below == sum(one < number for one in numbers)
