"""What fields of settings accept: numbers of any library, and nothing that only looks like one."""

import dataclasses
from fractions import Fraction
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax import fields
from lightgcn_jax.errors import InputError
from lightgcn_jax.fields import Kind, check_fields, with_traced


def made(kind: Kind, value: Any) -> Any:
    """A field of that kind, as it is kept."""

    @dataclasses.dataclass(frozen=True)
    class Owner:
        field: Any

        def __post_init__(self):
            check_fields(self, field=kind)

    return Owner(value).field


NAN, INFINITY = float("nan"), float("inf")
ACCEPTED = [
    (fields.whole(1), [1, np.int64(7), np.uint8(3), jnp.int32(5), np.array(2)]),
    (fields.number(), [0, -1.5, np.float32(0.5), np.float64(2), jnp.float32(0.25), Fraction(1, 2)]),
    (fields.at_least(0), [0, np.float32(0), 3]),
    (fields.POSITIVE, [1e-300, np.float16(0.5)]),
    (fields.SHARE, [0, 0.999]),
    (fields.SWITCH, [True, False, np.True_, jnp.array(False)]),
    (fields.optional(fields.SWITCH), [None, True]),
    (fields.one_of(Literal["a", "b"]), ["a", "b"]),
]
REFUSED = [
    (
        fields.whole(1),
        "a whole number of at least 1",
        [0, 2.5, 16.0, True, "3", None, np.float32(2)],
    ),
    (fields.number(), "a number", [NAN, INFINITY, True, "1", 1j, None, np.array([1.0]), 10**400]),
    (fields.at_least(0), "a number of at least 0", [-1e-9, -1, np.float32(-2)]),
    (fields.POSITIVE, "more than 0", [0, 0.0, -1]),
    (fields.SHARE, "a share of at least 0 and below 1", [1, 1.0, -0.1]),
    (fields.SWITCH, "True or False", [0, 1, "yes", None, np.int64(1)]),
    (fields.optional(fields.POSITIVE), "None or more than 0", [0, "none"]),
    (fields.one_of(("a", "b")), r"one of \('a', 'b'\)", ["c", 1, None, ["a"]]),
    (fields.several(fields.whole(1), "cut-offs"), "cut-offs", [5, "55", (1, 0), (10.5,), (True,)]),
]


@pytest.mark.parametrize(
    ("kind", "value"), [(kind, value) for kind, values in ACCEPTED for value in values]
)
def test_numbers_of_any_library_become_pythons(kind, value):
    kept = made(kind, value)
    assert kept == value
    assert type(kept) in (int, float, bool, str, type(None))


@pytest.mark.parametrize(
    ("kind", "expected", "value"),
    [(kind, expected, value) for kind, expected, values in REFUSED for value in values],
)
def test_what_is_of_another_kind_is_refused_by_the_fields_name(kind, expected, value):
    with pytest.raises(InputError, match=f"^field: expected {expected}, got "):
        made(kind, value)


@pytest.mark.parametrize("values", [[5, 10], (5, 10), np.array([5, 10]), jnp.array([5, 10])])
def test_sequences_of_any_library_become_tuples(values):
    kept = made(fields.several(fields.whole(1), "cut-offs"), values)
    assert kept == (5, 10)
    assert all(type(one) is int for one in kept)


def test_traced_numbers_go_in_unchecked_and_only_where_the_owner_has_the_field():
    @dataclasses.dataclass(frozen=True)
    class Scaled:
        temperature: float

        def __post_init__(self):
            check_fields(self, temperature=fields.POSITIVE)

        def __call__(self, value):
            return value / self.temperature

    owner = Scaled(2.0)
    traced = jax.jit(lambda value: with_traced(owner, temperature=value, margin=value)(1.0))
    assert float(traced(0.5)) == 2
    assert owner == Scaled(2.0)
    assert with_traced(len, temperature=3.0) is len
