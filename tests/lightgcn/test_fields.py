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
POINT = fields.record({"x": fields.number()}, {"name": fields.TEXT}, closed=True)
ACCEPTED = [
    (fields.whole(1), [1, np.int64(7), np.uint8(3), jnp.int32(5), np.array(2)]),
    (fields.number(), [0, -1.5, np.float32(0.5), np.float64(2), jnp.float32(0.25), Fraction(1, 2)]),
    (fields.at_least(0), [0, np.float32(0), 3]),
    (fields.POSITIVE, [1e-300, np.float16(0.5)]),
    (fields.SHARE, [0, 0.999]),
    (fields.SWITCH, [True, False, np.True_, jnp.array(False)]),
    (fields.optional(fields.SWITCH), [None, True]),
    (fields.one_of(Literal["a", "b"]), ["a", "b"]),
    (fields.TEXT, ["", "x"]),
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


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (POINT, [{"x": 1}, {"x": 0.5, "name": "a"}]),
        (fields.ANYTHING, [{}, {"any": [1]}]),
        (fields.table_of(fields.whole(0)), [{}, {"a": 1, "b": 0}]),
        (fields.list_of(POINT), [[], [{"x": 1}, {"x": 2}]]),
        (fields.whole(0, None), [2**80]),
    ],
)
def test_documents_stay_as_they_are(kind, values):
    for value in values:
        assert fields.document("f.json", value, kind) == value


def test_a_whole_number_has_an_end():
    with pytest.raises(InputError, match="field: expected at most 2,147,483,647, got 2147483648"):
        made(fields.whole(0), 2**31)
    with pytest.raises(InputError, match="f: n: expected at most 9, got 10"):
        fields.document("f", {"n": 10}, fields.record({"n": fields.whole(0, 9)}))


TREE = fields.record({"points": fields.list_of(POINT), "by": fields.table_of(fields.whole(0))})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "f.json: expected an object, got 3"),
        ({"by": {}}, "f.json: points: expected a list, it is missing"),
        ({"points": {}, "by": {}}, "f.json: points: expected a list, got {}"),
        ({"points": [{"x": 1}, {}], "by": {}}, "f.json: points[1].x: expected a number, it is mis"),
        ({"points": [{"x": "1"}], "by": {}}, "f.json: points[0].x: expected a number, got '1'"),
        ({"points": [{"x": 1, "y": 2}], "by": {}}, "f.json: points[0].y: expected no such field"),
        ({"points": [{"x": 1, "name": 2}], "by": {}}, "points[0].name: expected text, got 2"),
        (
            {"points": [], "by": {"a": -1}},
            "f.json: by.a: expected a whole number of at least 0, got -1",
        ),
        ({"points": [{"x": 10**400}], "by": {}}, f"points[0].x: expected a number, got {10**199}"),
        ({"points": [{"x": 10**5000}], "by": {}}, "got a number of thousands of digits"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_document_is_named_by_the_way_to_it(value, message):
    with pytest.raises(InputError) as refused:
        fields.document("f.json", value, TREE)
    assert message in str(refused.value)
    assert len(str(refused.value)) < 300
