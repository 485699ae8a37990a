"""A small run behind the service, asked in this process."""

import asyncio
import contextlib

import httpx
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

from lightgcn_jax.data import IdMap
from lightgcn_jax.data.titles import Titles
from lightgcn_jax.evaluation import InnerProduct
from lightgcn_jax.graph import csr_rows
from lightgcn_jax.service.app import Service
from lightgcn_jax.service.collaborative import CollaborativeRanker
from lightgcn_jax.service.limits import Limits
from lightgcn_jax.service.served import Served
from lightgcn_jax.serving import Recommender

USERS, ITEMS, DIM = 40, 50, 4
COLD_USER, COLD_ITEM = "user-39", "item-49"
# What a page must not take for its own text, and what a terminal would obey.
MARKUP = "<img src=x onerror=alert(1)>&amp;\"'\u202e</script>"
LIMITS = Limits(k=20, ids=12, batch=4, body=10_000, seconds=20)


def small_recommender(seed=0, scorer=None):
    """Users with three to eight items each, but for one; an item that nobody has."""
    rng = np.random.default_rng(seed)
    users, items = (rng.normal(size=(n, DIM)).astype(np.float32) for n in (USERS, ITEMS))
    held = [np.sort(rng.choice(ITEMS - 1, rng.integers(3, 9), replace=False)) for _ in range(39)]
    rows = np.repeat(np.arange(39), [len(one) for one in held]), np.concatenate(held)
    train = csr_rows(*rows, USERS)
    ids = IdMap(pl.Series([f"user-{row}" for row in range(USERS)]))
    names = [MARKUP, *(f"item-{row}" for row in range(1, ITEMS))]
    items_ids = IdMap(pl.Series(names))
    titles = Titles(IdMap(pl.Series(names[:40])), pl.Series([f"The {one}" for one in names[:40]]))
    made = scorer(train) if scorer else InnerProduct(jnp.asarray(users), jnp.asarray(items))
    return Recommender(ids, items_ids, made, train, "small", train=train, titles=titles)


@pytest.fixture(scope="session")
def recommender():
    return small_recommender()


def served(recommender, limits=LIMITS):
    return Served(CollaborativeRanker(recommender, limits), limits)


def service_of(recommender, limits=LIMITS, **options):
    """A service that has loaded its run."""
    service = Service(lambda: served(recommender, limits), limits, "lightgcn-jax", **options)
    asyncio.run(service.load())
    return service


async def asked(service, requests):
    """The answers to requests that are sent at once."""
    transport = httpx.ASGITransport(service.app())
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        sent = (client.request(method, path, **given) for method, path, given in requests)
        return await asyncio.gather(*sent)


def ask(service, method, path, **given):
    """One answer."""
    (answer,) = asyncio.run(asked(service, [(method, path, given)]))
    return answer


@pytest.fixture(scope="session")
def service(recommender):
    return service_of(recommender)


@contextlib.contextmanager
def compilations():
    """What is compiled meanwhile, or read from a cache: an entry for each program."""
    found = []

    def note(event, *_, **__):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
