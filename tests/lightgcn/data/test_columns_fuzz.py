"""Columns of anything: what is accepted is what was given, all else is refused in words."""

import datetime as dt
import decimal
import fractions
import random
import uuid
import warnings

import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest

from lightgcn_jax.data.interactions import Interactions
from lightgcn_jax.errors import InputError

VALUES = [
    *(
        1,
        0,
        -5,
        2**63,
        2**70,
        1.5,
        float("nan"),
        float("inf"),
        True,
        False,
        1j,
        None,
        pd.NA,
        pd.NaT,
    ),
    *("a", "", "  ", "17", "nan", "1e400", "2020-01-01", "x\x00", "é", "٣", b"a"),
    *(decimal.Decimal("1.5"), decimal.Decimal("NaN"), decimal.Decimal("1e999")),
    *(fractions.Fraction(1, 3), uuid.UUID(int=3), [], [1], (1, 2), {}, set(), object()),
    *(dt.date(2020, 1, 1), dt.date.min, dt.datetime(2020, 1, 1), dt.datetime.max, dt.time(1)),
    *(dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.timedelta(1), pd.Timestamp("2020")),
    *(np.int8(3), np.float32(2), np.complex64(1), np.bool_(True), np.str_("q"), np.ma.masked),
    *(
        np.datetime64("2020"),
        np.datetime64("NaT", "s"),
        np.datetime64("9999999999"),
        np.timedelta64(1, "s"),
    ),
    *(pd.Timedelta(1), np.array(3), np.array([3]), jnp.float32(2)),
]
FOREIGN = ("polars", "pyo3", "unwrap", "numpy()", "inhomogeneous", "argument", "traceback")


def wrapped(rng, values):
    """The values in some container, or as a list where it does not take them."""
    mask = [rng.random() < 0.3 for _ in values]
    makers = [
        list,
        tuple,
        iter,
        np.array,
        pd.Series,
        pd.Index,
        pd.array,
        pl.Series,
        jnp.array,
        lambda values: np.array(values, object),
        lambda values: np.ma.masked_array(np.array(values), mask=mask),
    ]
    try:
        return rng.choice(makers)(values)
    except (Exception, pl.exceptions.PanicException):
        return values


def check(seed: int) -> bool:
    rng = random.Random(seed)
    count = rng.randint(1, 3)
    pool = VALUES if rng.random() < 0.5 else rng.sample(VALUES, 2)
    sound = {"users": [1, 2, 3], "items": ["a", "b", "c"], "ratings": [1.0, 2, 3]}
    sound |= {"timestamps": [1, 2, 3], "parts": [0, 1, 2]}
    given = {name: column[:count] for name, column in sound.items()}
    odd = rng.choice(list(given))
    given[odd] = [rng.choice(pool) for _ in range(count)]
    columns = given | {odd: wrapped(rng, given[odd])}
    if hasattr(columns[odd], "__len__"):
        # A container may have changed them: pandas makes True of infinity beside booleans.
        given[odd] = list(columns[odd])
    try:
        if rng.random() < 0.3:
            names = {
                "user": "users",
                "item": "items",
                "rating": "ratings",
                "timestamp": "timestamps",
            }
            data = Interactions.from_frame(columns, **names)
        else:
            data = Interactions.from_arrays(**columns)
    except InputError as error:
        foreign = [word for word in FOREIGN if word in str(error).lower()]
        if foreign:
            raise AssertionError(f"seed {seed}: {foreign} in {error}") from error
        return False
    if odd == "ratings":
        numbers = [value.item() if hasattr(value, "item") else value for value in given[odd]]
        np.testing.assert_allclose(data.ratings, [float(value) for value in numbers], rtol=1e-6)
    elif odd in ("users", "items"):
        ids = getattr(data, odd).external(getattr(data, f"{odd[:-1]}_rows"))
        assert list(map(str, ids)) == [str(value).strip() for value in given[odd]], seed
    return True


def checked(seeds) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return sum(map(check, seeds))


def test_columns_of_anything():
    assert 20 < checked(range(500)) < 300


@pytest.mark.slow
def test_many_columns_of_anything():
    assert checked(range(20_000)) > 1000
