"""A trained encoder behind the service, items that come while it runs included."""

import asyncio

import numpy as np
import pytest
from PIL import Image

from lightgcn_jax.service.app import Service
from lightgcn_jax.service.limits import Limits
from lightgcn_jax.service.served import Served
from pinsage_jax import fit
from pinsage_jax.estimators.recommending import ContextRecommender
from pinsage_jax.service.items import ItemRanker
from pinsage_jax.service.pictures import Pictures
from tests.lightgcn.service.conftest import ask, compilations
from tests.pinsage.trained import pins_task, tiny

LIMITS = Limits(k=20, ids=12, batch=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "pins"
    fit(pins_task(), tiny(epochs=1, steps_per_epoch=2), out=path)
    return path


@pytest.fixture(scope="module")
def service(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    pictures = Pictures(folder)
    service = Service(
        lambda: Served(ItemRanker.open(run, LIMITS), LIMITS), LIMITS, "pinsage-jax", None, pictures
    )
    asyncio.run(service.load())
    item = service.current.served.ranker.items.ids[0]
    Image.fromarray(np.zeros((400, 300, 3), np.uint8)).save(folder / f"{item}.png")
    return service


@pytest.fixture(scope="module")
def recommender(run):
    return ContextRecommender.from_run(run)


def ids_of(answer):
    return [one["id"] for one in answer["items"]]


def test_contexts_and_lists_get_what_python_recommends(service, recommender):
    users = recommender.users.ids.head(3).to_list()
    found = ask(service, "POST", "/recommend", json={"users": users, "k": 6}).json()["answers"]
    assert [ids_of(one) for one in found] == [one.ids for one in recommender.recommend(users, 6)]
    items = recommender.items.ids.head(3).to_list()
    answer = ask(service, "POST", "/recommend-from", json={"items": items, "k": 6}).json()
    assert ids_of(answer) == recommender.recommend_from(items, 6).ids


def test_an_item_that_comes_is_found_at_once(service):
    ranker = service.current.served.ranker
    before = len(ranker.items)
    like = ranker._features.take(np.array([5]))
    features = {}
    for name, column in like.columns.items():
        value = column.values[0]
        features[name] = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    contexts = ranker._live.contexts.ids.head(2).to_list()
    new = max(ranker.items.ids.to_list()) + 1 if ranker.items.ids.dtype.is_integer() else "new"
    given = {"id": new, "features": features, "contexts": [*contexts, "no such"]}
    with compilations() as found:
        answer = ask(service, "POST", "/items", json=given)
    assert answer.status_code == 200, answer.text
    assert not found
    assert answer.json()["said"].startswith("made from its features and 2 contexts; ")
    assert len(ranker.items) == before + 1
    other = new + 1 if isinstance(new, int) else "newer"
    with compilations() as found:
        alone = ask(service, "POST", "/items", json=given | {"id": other, "contexts": []})
    assert not found
    assert alone.json()["said"] == "made from its features and the contexts of items like it"
    with compilations() as found:
        answer = ask(service, "GET", "/similar", params={"item": str(new), "k": 20})
        listed = ask(service, "POST", "/recommend-from", json={"items": [new, "no such"]})
        asked = ask(service, "GET", "/recommend", params={"user": str(contexts[0])})
    assert not found
    assert (listed.json()["unknown"], asked.status_code) == (["no such"], 200)
    (near,) = answer.json()["answers"]
    assert len(near["items"]) == 20
    refused = ask(service, "POST", "/items", json=given)
    assert (refused.status_code, "known already" in refused.json()["error"]) == (409, True)
    lacks = ask(service, "POST", "/items", json={"id": "other", "features": {}})
    assert (lacks.status_code, "which it lacks" in lacks.json()["error"]) == (400, True)


def test_pictures_are_small_and_of_items_alone(service):
    item = service.current.served.ranker.items.ids[0]
    answer = ask(service, "GET", "/picture", params={"item": str(item)})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    for other in ("../secret", "no such", str(service.current.served.ranker.items.ids[1])):
        assert ask(service, "GET", "/picture", params={"item": other}).status_code == 404


def test_a_map_and_reasons(service):
    answer = ask(service, "GET", "/map").json()
    assert len(answer["points"]) == len(service.current.plane.ids)
    items = [one["id"] for one in answer["points"][:3]]
    reasons = ask(service, "POST", "/explain", json={"items": items, "explained": items[:1]}).json()
    own = next(one for one in reasons["answers"][0]["because"] if one["id"] == items[0])
    assert own["value"] == pytest.approx(1, abs=1e-5)
