"""What the service refuses, and how it stays itself: limits, programs, reloads, headers."""

import asyncio
import json
import os
import sys
import threading
import time
import tomllib
from pathlib import Path

import httpx
import jax
import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.service.app import Service
from lightgcn_jax.service.page_files import PAGE
from tests.lightgcn.service.conftest import (
    LIMITS,
    MARKUP,
    ask,
    asked,
    compilations,
    served,
    service_of,
    small_recommender,
)

ROOT = Path(__file__).parents[3]
TOKEN = "a token of some length"


def test_nothing_is_compiled_after_the_warm_up(recommender):
    jax.clear_caches()
    with compilations() as warming_up:
        service = service_of(recommender)
    assert warming_up
    with compilations() as later:
        _ask_in_many_ways(service)
    assert not later


def _ask_in_many_ways(service):
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 4, 9):
        wanted = []
        for row in range(size):
            k, length = int(rng.integers(1, 21)), int(rng.integers(1, 13))
            items = [f"item-{one}" for one in rng.choice(np.arange(1, 49), length, replace=False)]
            some = {"k": k, "exclude": items}
            wanted += [
                ("GET", "/recommend", {"params": {"user": f"user-{row}", **some}}),
                ("GET", "/similar", {"params": {"item": f"item-{row + 1}", **some}}),
                ("POST", "/recommend-from", {"json": {"items": items, "k": k}}),
            ]
        answers = asyncio.run(asked(service, wanted))
        assert {one.status_code for one in answers} == {200}
    reasons = {"items": ["item-1", "item-2", "item-3"], "explained": ["item-4", "item-5"]}
    assert ask(service, "POST", "/explain", json=reasons).status_code == 200
    given = {"id": "new", "users": ["user-1", "user-2"]}
    assert ask(service, "POST", "/items", json=given).status_code == 200
    assert ask(service, "GET", "/recommend", params={"user": "user-3"}).status_code == 200


REFUSALS = [
    ({"user": "user-1", "k": 21}, "k: expected 1 to 20, got 21"),
    ({"user": "user-1", "k": "many"}, "k: expected a whole number, got 'many'"),
    ({"user": "user-1", "k": "9" * 5000}, "k: expected 1 to 20"),
    ({"user": "user-1", "kk": 3}, "kk: expected one of user, k, exclude"),
    ({"user": ["user-1"] * 13}, "user: expected 1 to 12 entries, got 13"),
    ({"user": "u" * 201}, "user[0]: expected 1 to 200 characters, got 201"),
    ({"k": 3}, "expected user, which it lacks"),
    ({"user": "user-1", "k": [3, 4]}, "k: expected one value, got 2"),
]


@pytest.mark.parametrize(("params", "said"), REFUSALS, ids=[said for _, said in REFUSALS])
def test_a_parameter_that_does_not_fit_is_named(service, params, said):
    answer = ask(service, "GET", "/recommend", params=params)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


BODIES = [
    (b"", "expected JSON"),
    (b"[]", "expected an object, got []"),
    # How deep a parser goes differs between versions of Python.
    (b"[" * 9_000, "body: expected JSON, got"),
    (b'{"users": [NaN]}', "NaN"),
    (b'{"users": [1.5]}', "users[0]: expected a whole number or a string, got 1.5"),
    (b'{"users": [1e400]}', "users[0]: expected a whole number"),
    (b'{"users": [true]}', "users[0]: expected a whole number or a string, got True"),
    (b'{"users": [9223372036854775808]}', "users[0]: expected -9223372036854775808 to"),
    (b'{"users": ["\\ud800"]}', "half of a pair of surrogates"),
    (b'{"users": [""]}', "users[0]: expected 1 to 200 characters"),
    (b'{"users": "user-1"}', "users: expected an array"),
    (b'{"users": ["user-1"], "\\u0000": 1}', "'\\x00': expected one of users, k, exclude"),
    (b"\xff", "expected JSON"),
]


@pytest.mark.parametrize(("body", "said"), BODIES, ids=[said for _, said in BODIES])
def test_a_body_that_does_not_fit_is_named(service, body, said):
    headers = {"content-type": "application/json"}
    answer = ask(service, "POST", "/recommend", content=body, headers=headers)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_whole_numbers_of_json_are_whole_numbers(service):
    body = b'{"users": ["user-1"], "k": 3.0}'
    headers = {"content-type": "application/json; charset=utf-8"}
    answer = ask(service, "POST", "/recommend", content=body, headers=headers)
    assert len(answer.json()["answers"][0]["items"]) == 3


def test_long_bodies_and_other_types_are_refused(service):
    long = ask(service, "POST", "/recommend", json={"users": ["u" * 11_000]})
    assert (long.status_code, "at most 10,000 bytes" in long.json()["error"]) == (413, True)
    # A form of another site could send text without asking first.
    text = ask(service, "POST", "/recommend", content=b'{"users": ["user-1"]}')
    assert text.status_code == 415


def test_unknown_paths_and_methods(service):
    assert ask(service, "GET", "/nothing").status_code == 404
    wrong = ask(service, "DELETE", "/items")
    allowed = {*wrong.headers["allow"].split(", ")}
    assert (wrong.status_code, allowed) == (405, {"GET", "HEAD", "POST"})
    assert ask(service, "HEAD", "/health").status_code == 200


class Slow:
    """A run that takes its time."""

    def __init__(self, run, seconds):
        self.answer_of, self.seconds = run.answer, seconds

    def __call__(self, queries):
        time.sleep(self.seconds)
        return self.answer_of(queries)


def test_what_takes_too_long_and_what_is_too_much_is_said(recommender):
    service = service_of(recommender, LIMITS._replace(seconds=0.2, waiting=6))
    run = service.current.served
    run.answer = Slow(run, 0.5)
    answer = ask(service, "GET", "/recommend", params={"user": "user-1"})
    assert (answer.status_code, "longer than 0.2 s" in answer.json()["error"]) == (504, True)
    wanted = [("GET", "/recommend", {"params": {"user": ["user-1", "user-2"]}})] * 9
    answers = asyncio.run(asked(service, wanted))
    assert {one.status_code for one in answers} == {503, 504}
    assert any("too many queries wait" in one.json()["error"] for one in answers)
    run.answer = run.answer.answer_of
    assert ask(service, "GET", "/recommend", params={"user": "user-1"}).status_code == 200


def test_a_fault_is_told_in_the_log_alone(recommender, capsys):
    service = service_of(recommender)

    def broken(_):
        raise RuntimeError("a secret of the inside")

    service.current.served.answer = broken
    answer = ask(service, "GET", "/recommend", params={"user": "user-1"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert "a secret of the inside" in capsys.readouterr().err


def test_before_a_run_is_there_nothing_but_health_is_answered(recommender):
    service = Service(lambda: served(recommender), LIMITS, "lightgcn-jax")
    assert ask(service, "GET", "/health").status_code == 200
    for path in ("/ready", "/recommend?user=1", "/about"):
        answer = ask(service, "GET", path)
        assert (answer.status_code, "being loaded" in answer.json()["error"]) == (503, True)


def test_ids_are_text_wherever_they_come_back(service):
    """No sign of markup, of a terminal's or of another direction of writing leaves as itself."""
    answer = ask(service, "GET", "/similar", params={"item": MARKUP, "k": 20})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.content.isascii()
    assert answer.json()["answers"][0]["item"] == MARKUP
    refused = ask(service, "GET", "/recommend", params={"user": "user-1", f"\x1b[2J{MARKUP}": "1"})
    assert refused.status_code == 400
    assert "\x1b" not in refused.json()["error"]
    for path in ("/", "/page.js", "/page.css"):
        page = ask(service, "GET", path)
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http:" not in page.text.replace("http://www.w3.org/2000/svg", "")
        assert "https:" not in page.text


def post_reload(service, token=TOKEN):
    return ask(service, "POST", "/reload", headers={"authorization": f"Bearer {token}".encode()})


def test_reload_needs_the_token_and_is_off_without_one(recommender):
    service = service_of(recommender, token=TOKEN)
    assert ask(service, "POST", "/reload").status_code == 401
    assert post_reload(service, TOKEN + "x").status_code == 401
    assert post_reload(service, "ü").status_code == 401
    answer = post_reload(service)
    assert (answer.status_code, answer.json()["loaded"]) == (200, 2)
    without = service_of(recommender)
    assert post_reload(without).status_code == 404
    assert "/reload" not in ask(without, "GET", "/openapi.json").json()["paths"]


def test_a_run_that_does_not_load_is_refused_and_the_old_one_goes_on(recommender):
    runs = [recommender]

    def load():
        if not runs:
            raise InputError("run/config.json: expected this file, it is missing")
        return served(runs.pop())

    service = Service(load, LIMITS, "lightgcn-jax", TOKEN)
    asyncio.run(service.load())
    before = ask(service, "GET", "/recommend", params={"user": "user-1"}).json()
    answer = post_reload(service)
    assert answer.status_code == 409
    assert "the old run goes on: run/config.json: expected" in answer.json()["error"]
    assert ask(service, "GET", "/recommend", params={"user": "user-1"}).json() == before
    runs.append(small_recommender(1))
    assert post_reload(service).status_code == 200
    after = ask(service, "GET", "/recommend", params={"user": "user-1"}).json()
    assert after != before
    assert "reloads_refused_total 1.0" in ask(service, "GET", "/metrics").text


def test_requests_go_on_while_a_run_is_loaded_and_a_second_load_is_refused(recommender):
    priorities = []

    def load():
        time.sleep(0.3 if priorities else 0)
        priorities.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return served(recommender)

    service = Service(load, LIMITS, "lightgcn-jax", TOKEN)
    asyncio.run(service.load())

    async def during():
        transport = httpx.ASGITransport(service.app())
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            headers = {"authorization": f"Bearer {TOKEN}"}
            reloading = asyncio.create_task(client.post("/reload", headers=headers))
            statuses = []
            while not reloading.done():
                answer = await client.get("/recommend", params={"user": "user-1"})
                statuses.append(answer.status_code)
                if len(statuses) == 1:
                    second = await client.post("/reload", headers=headers)
            return (await reloading).status_code, second.status_code, statuses

    first, second, statuses = asyncio.run(during())
    assert (first, second, set(statuses)) == (200, 409, {200})
    assert len(statuses) > 1
    # Those who are served go first.
    assert sys.platform != "linux" or priorities[1] > priorities[0]


def test_figures_count_requests_and_batches(recommender):
    service = service_of(recommender)
    ask(service, "GET", "/recommend", params={"user": ["user-1", "user-2"]})
    ask(service, "GET", "/recommend", params={"user": "user-1", "k": 0})
    text = ask(service, "GET", "/metrics").text
    assert 'requests_total{operation="recommend",status="200"} 1.0' in text
    assert 'requests_total{operation="recommend",status="400"} 1.0' in text
    assert "batch_size_sum 2.0" in text
    assert "batch_size_count 1.0" in text


def test_the_description_is_json_of_the_paths_that_there_are(service):
    described = ask(service, "GET", "/openapi.json").json()
    assert described["openapi"] == "3.1.0"
    assert json.dumps(described).count("$ref") > 10
    for path, methods in described["paths"].items():
        for method in methods:
            answer = ask(service, method.upper(), path)
            assert answer.status_code not in (404, 405, 500)


def test_every_file_of_the_page_comes_with_the_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    globs = settings["tool"]["setuptools"]["package-data"]["lightgcn_jax"]
    files = {*(ROOT / "lightgcn_jax" / "service" / "page").iterdir()}
    assert {path.name for path in files} == {name for name, _ in PAGE.values()}
    for path in files:
        inside = path.relative_to(ROOT / "lightgcn_jax")
        assert any(inside.match(glob) for glob in globs), path
