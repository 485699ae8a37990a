"""Requests that are generated from the service's own description, and some that break it: every
answer is one that the description promises, none is a fault of the service."""

import asyncio
import json
import string

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightgcn_jax.service.checking import Schemas
from tests.lightgcn.service.conftest import COLD_ITEM, COLD_USER, MARKUP, service_of

REFERENCE = "#/components/schemas/"
KNOWN = ["user-1", "user-2", COLD_USER, "item-1", "item-2", COLD_ITEM, MARKUP, "nobody", 7]
TEXTS = st.text(max_size=12) | st.text(string.printable + "\x00\x1b\u202e<&\"'", max_size=12)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def values_of(schema, named):
    """Values of a schema, ids of the run among them, and now and then something else."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(REFERENCE)
        inner = values_of(named[name], named)
        return st.sampled_from(KNOWN) | inner if name == "Id" else inner
    if "oneOf" in schema:
        return st.one_of(*(values_of(one, named) for one in schema["oneOf"]))
    kind = schema.get("type")
    if kind == "integer":
        return st.integers(schema.get("minimum"), schema.get("maximum"))
    if kind == "number":
        return st.floats(-1e6, 1e6)
    if kind == "string":
        return st.text(min_size=schema.get("minLength", 0), max_size=20)
    if kind == "array":
        most = min(schema.get("maxItems", 4), 4)
        return st.lists(
            _often(schema["items"], named), min_size=schema.get("minItems", 0), max_size=most
        )
    if kind == "object":
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        return st.fixed_dictionaries(
            {name: _often(properties[name], named) for name in required},
            optional={
                name: _often(one, named) for name, one in properties.items() if name not in required
            },
        )
    return JUNK


def _often(schema, named):
    return st.integers(0, 19).flatmap(lambda roll: values_of(schema, named) if roll else JUNK)


def requests_of(described):
    """A request of any operation: method, path, parameters, body, and what its answers are."""
    named, every = described["components"]["schemas"], []
    for path, methods in described["paths"].items():
        for method, one in methods.items():
            parameters = st.fixed_dictionaries(
                {
                    x["name"]: _often(x["schema"], named)
                    for x in one.get("parameters", ())
                    if x["required"]
                },
                optional={
                    x["name"]: _often(x["schema"], named)
                    for x in one.get("parameters", ())
                    if not x["required"]
                },
            )
            body = st.none()
            if "requestBody" in one:
                schema = one["requestBody"]["content"]["application/json"]["schema"]
                body = _often(schema, named)
            every.append(
                st.tuples(st.just(method.upper()), st.just(path), parameters, body, st.just(one))
            )
    return st.one_of(*every)


def sent(method, parameters, body):
    """What httpx is given; a value that is no text in UTF-8 is left out of a query."""
    flat = []
    for name, value in parameters.items():
        for one in value if isinstance(value, list) else [value]:
            text = one if isinstance(one, str) else json.dumps(one)
            flat.append((name, text.encode(errors="replace").decode()))
    given = {"params": flat}
    if method == "POST":
        given |= {
            "content": json.dumps(body).encode(),
            "headers": {"content-type": "application/json"},
        }
    return given


@pytest.fixture(scope="module")
def described(recommender):
    """A service of its own, for items are added to it."""
    service = service_of(recommender)
    transport = httpx.ASGITransport(service.app(), raise_app_exceptions=False)
    with asyncio.Runner() as runner:
        client = httpx.AsyncClient(transport=transport, base_url="http://here", trust_env=False)

        def ask(method, path, **given):
            return runner.run(client.request(method, path, **given))

        description = ask("GET", "/openapi.json").json()
        yield ask, description, Schemas(description["components"]["schemas"]), {}
        runner.run(client.aclose())


def check(described, examples, capsys):
    ask, description, schemas, statuses = described

    @settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=[*HealthCheck]
    )
    @given(requests_of(description))
    def holds(request):
        method, path, parameters, body, operation = request
        answer = ask(method, path, **sent(method, parameters, body))
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        assert answer.status_code < 500, answer.text
        assert "Traceback" not in answer.text
        content = operation["responses"][str(answer.status_code)]["content"]
        (kind,) = content
        assert answer.headers["content-type"].startswith(kind)
        if kind == "application/json":
            schemas.check(answer.json(), content[kind]["schema"], "answer")

    holds()
    assert not capsys.readouterr().err
    assert statuses[200] > examples / 5
    assert statuses[400] > examples / 20
    return statuses


def test_generated_requests_get_promised_answers(described, capsys):
    check(described, 300, capsys)


@pytest.mark.slow
def test_ten_thousand_generated_requests_get_promised_answers(described, capsys):
    statuses = check(described, 10_000, capsys)
    print(statuses)
