"""What the service answers, held against Python's own answers."""

import asyncio

import jax
import numpy as np
import pytest

from lightgcn_jax.graph import BipartiteGraph
from lightgcn_jax.models import GfCf, ItemCf
from tests.lightgcn.service.conftest import (
    COLD_ITEM,
    COLD_USER,
    LIMITS,
    MARKUP,
    ask,
    asked,
    service_of,
    small_recommender,
)


def lists(answers):
    """Ids and, since batches of other sizes are summed in another order, rounded scores."""
    return [
        ([one["id"] for one in items], close(one["score"] for one in items)) for items in answers
    ]


def ranked(found):
    return [(one.ids, list(one.scores.tolist())) for one in found]


def close(scores):
    return pytest.approx(list(scores), rel=1e-5)


def test_users_get_what_python_recommends(service, recommender):
    users = [f"user-{row}" for row in range(9)]
    answer = ask(service, "GET", "/recommend", params={"user": users, "k": 7})
    assert answer.status_code == 200
    answers = answer.json()["answers"]
    assert [one["user"] for one in answers] == users
    assert lists(one["items"] for one in answers) == ranked(recommender.recommend(users, 7))
    assert {(one["status"], one["source"]) for one in answers} == {("known", "model")}
    posted = ask(service, "POST", "/recommend", json={"users": users, "k": 7})
    assert lists(one["items"] for one in posted.json()["answers"]) == ranked(
        recommender.recommend(users, 7)
    )


def test_titles_stand_beside_ids_and_ids_where_there_is_none(service):
    items = ask(service, "GET", "/items", params={"search": "item-4", "k": 20}).json()["items"]
    assert {one["id"]: one["title"] for one in items}["item-4"] == "The item-4"
    assert {one["id"]: one["title"] for one in items}["item-41"] == "item-41"


def test_somebody_new_gets_what_python_recommends(service, recommender):
    items = ["item-3", MARKUP, "item-7"]
    answer = ask(service, "POST", "/recommend-from", json={"items": items, "k": 5}).json()
    assert lists([answer["items"]]) == ranked([recommender.recommend_from(items, 5)])
    assert answer["source"] == "model"


def test_similar_items_are_those_of_python(service, recommender):
    answer = ask(service, "GET", "/similar", params={"item": ["item-1", "item-2"], "k": 5}).json()
    expected = recommender.similar_items(["item-1", "item-2"], 5)
    assert lists(one["items"] for one in answer["answers"]) == ranked(expected)


def test_excluded_items_are_left_out_and_others_take_their_places(service, recommender):
    best = recommender.recommend("user-1", 20).ids
    params = {"user": "user-1", "k": 3, "exclude": [best[0], best[2], "nothing"]}
    (answer,) = ask(service, "GET", "/recommend", params=params).json()["answers"]
    assert [one["id"] for one in answer["items"]] == [best[1], best[3], best[4]]


def test_each_unknown_and_each_cold_id_is_told(service, recommender):
    users = ["user-1", "nobody", COLD_USER]
    answers = ask(service, "GET", "/recommend", params={"user": users}).json()["answers"]
    assert [one["status"] for one in answers] == ["known", "unknown", "cold"]
    assert [one["source"] for one in answers] == ["model", "popularity", "popularity"]
    assert "note" not in answers[0]
    counts = np.bincount(np.asarray(recommender.train.columns), minlength=50)
    for one in answers[1:]:
        assert "popular items are the answer" in one["note"]
        scores = [item["score"] for item in one["items"]]
        assert scores == sorted(counts.tolist(), reverse=True)[:20]
    given = {"items": ["item-3", "no such", COLD_ITEM]}
    answer = ask(service, "POST", "/recommend-from", json=given).json()
    assert (answer["unknown"], answer["cold"]) == (["no such"], [COLD_ITEM])
    assert (
        answer["items"]
        == ask(service, "POST", "/recommend-from", json={"items": ["item-3"]}).json()["items"]
    )
    nothing = ask(service, "POST", "/recommend-from", json={"items": ["no such"], "k": 3}).json()
    assert (nothing["source"], len(nothing["items"])) == ("popularity", 3)
    statuses = ask(service, "GET", "/similar", params={"item": ["none", COLD_ITEM]}).json()
    assert [one["status"] for one in statuses["answers"]] == ["unknown", "cold"]
    assert all(one["items"] == [] and one["note"] for one in statuses["answers"])


def test_a_history_is_what_the_user_has(service, recommender):
    answer = ask(service, "GET", "/history", params={"user": "user-3"}).json()
    start, end = np.asarray(recommender.train.offsets)[3:5]
    rows = np.asarray(recommender.train.columns)[start:end]
    assert [one["id"] for one in answer["items"]] == recommender.items.external(rows)
    assert (answer["status"], answer["count"]) == ("known", end - start)
    unknown = ask(service, "GET", "/history", params={"user": "nobody"}).json()
    assert (unknown["status"], unknown["items"]) == ("unknown", [])


def test_search_finds_titles_that_begin_so_first_and_knows_no_patterns(service):
    def found(text, k=20):
        answer = ask(service, "GET", "/items", params={"search": text, "k": k}).json()
        return [one["id"] for one in answer["items"]]

    assert found("THE ITEM-39") == ["item-39"]
    assert set(found("the item-1")) == {"item-1", *(f"item-{row}" for row in range(10, 20))}
    assert found(".*") == []
    assert found("img src") == [MARKUP]
    assert len(found("", 4)) == 4


def scored_by(closed_form):
    """A service of a model that is fitted to the small recommender's pairs."""
    train = small_recommender().train
    pairs = np.repeat(np.arange(40), np.asarray(train.lengths())), np.asarray(train.columns)
    graph = BipartiteGraph.from_pairs(*pairs, num_users=40, num_items=50)
    model = closed_form.fit(graph, jax.random.key(0))
    return service_of(small_recommender(scorer=lambda _: model))


def test_reasons_of_a_sum_add_up_to_the_score():
    """Item-based cosines are summed over the user's items."""
    service = scored_by(ItemCf())
    (answer,) = ask(service, "GET", "/recommend", params={"user": "user-5", "k": 4}).json()[
        "answers"
    ]
    items = [one["id"] for one in answer["items"]]
    given = {"user": "user-5", "explained": [*items, "no such"], "k": 20}
    reasons = ask(service, "POST", "/explain", json=given).json()
    assert reasons["adds_up"]
    for one, item in zip(reasons["answers"], answer["items"], strict=False):
        values = [reason["value"] for reason in one["because"]]
        assert values == sorted(values, reverse=True)
        assert sum(values) == pytest.approx(item["score"], rel=1e-5)
    assert reasons["answers"][-1] == {"item": "no such", "status": "unknown", "because": []}
    # Such a model has no vectors for new items, nor for a map.
    refused = ask(service, "POST", "/items", json={"id": "new", "users": ["user-1"]})
    assert (refused.status_code, "no new items" in refused.json()["error"]) == (409, True)
    assert ask(service, "GET", "/map").json()["points"] == []


def test_reasons_of_a_filter_add_up_for_somebody_new_too():
    """Under the graph that holds all of their items."""
    service = scored_by(GfCf(singular_vectors=4))
    given = {"items": ["item-1", "item-2", "item-9"], "k": 3}
    answer = ask(service, "POST", "/recommend-from", json=given).json()
    explained = [one["id"] for one in answer["items"]]
    given = {"items": given["items"], "explained": explained}
    reasons = ask(service, "POST", "/explain", json=given).json()
    assert reasons["adds_up"]
    for one, item in zip(reasons["answers"], answer["items"], strict=True):
        total = sum(reason["value"] for reason in one["because"])
        assert total == pytest.approx(item["score"], rel=1e-4)


def test_reasons_that_do_not_add_up_are_cosines(service, recommender):
    given = {"items": ["item-1", "item-2"], "explained": ["item-5"]}
    reasons = ask(service, "POST", "/explain", json=given).json()
    assert not reasons["adds_up"]
    assert "cosine" in reasons["number"]
    vectors = recommender.item_embeddings
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = {one["id"]: one["value"] for one in reasons["answers"][0]["because"]}
    assert found == pytest.approx(
        {"item-1": unit[1] @ unit[5], "item-2": unit[2] @ unit[5]}, rel=1e-4
    )
    both = ask(service, "POST", "/explain", json={**given, "user": "user-1"})
    assert both.status_code == 400
    nobody = ask(service, "POST", "/explain", json={"user": "nobody", "explained": ["item-1"]})
    assert nobody.status_code == 404


def test_an_added_item_is_found_and_recommended_to_those_without_it(recommender):
    service = service_of(recommender)
    users = ["user-1", "user-2", "nobody"]
    given = {"id": "new", "users": users, "title": "Brand new"}
    answer = ask(service, "POST", "/items", json=given)
    assert (answer.status_code, answer.json()["id"]) == (200, "new")
    assert "made from 2" in answer.json()["said"]
    assert "other 1" in answer.json()["said"]
    vector = recommender.new_item_vectors([users[:2]])[0]
    scores = recommender.user_embeddings @ vector
    for row in (0, 1, 7):
        asked_for = {"user": f"user-{row}", "k": 20}
        (found,) = ask(service, "GET", "/recommend", params=asked_for).json()["answers"]
        places = {one["id"]: one["score"] for one in found["items"]}
        kept = recommender.recommend(f"user-{row}", 20)
        if row == 1 or scores[row] < kept.scores[-1]:  # who has it is not offered it
            assert "new" not in places
        else:
            assert places["new"] == pytest.approx(scores[row], rel=1e-5)
        assert list(places.values()) == sorted(places.values(), reverse=True)
    found = ask(service, "GET", "/items", params={"search": "brand"}).json()["items"]
    assert found == [{"id": "new", "title": "Brand new"}]
    table = np.concatenate([recommender.item_embeddings, vector[None]])
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    (near,) = ask(service, "GET", "/similar", params={"item": "new", "k": 3}).json()["answers"]
    best = np.argsort(-(unit[:-1] @ unit[-1]))[:3]
    assert [one["id"] for one in near["items"]] == recommender.items.external(best)
    assert "new" in [
        one["id"]
        for one in ask(service, "GET", "/history", params={"user": "user-2"}).json()["items"]
    ]
    again = ask(service, "POST", "/items", json=given)
    assert (again.status_code, "known already" in again.json()["error"]) == (409, True)
    nobody = ask(service, "POST", "/items", json={"id": "other", "users": ["nobody"]})
    assert (nobody.status_code, "nothing is known" in nobody.json()["error"]) == (409, True)


def test_the_map_has_every_item_within_its_frame(service):
    answer = ask(service, "GET", "/map").json()
    places = np.array([[one["x"], one["y"]] for one in answer["points"]])
    assert len(places) == 50
    assert np.abs(places).max() == pytest.approx(1, abs=1e-3)
    assert {one["group"] for one in answer["points"]} == {*range(len(answer["groups"]))}


def test_requests_that_arrive_together_are_one_call(recommender):
    service = service_of(recommender)
    sizes, answer = [], service.current.served.answer

    def counted(queries):
        sizes.append(len(queries))
        return answer(queries)

    service.current.served.answer = counted
    wanted = [("GET", "/recommend", {"params": {"user": f"user-{row}"}}) for row in range(8)]
    answers = asyncio.run(asked(service, wanted))
    assert sum(sizes) == 8
    assert max(sizes) == LIMITS.batch
    for row, one in enumerate(answers):
        alone = ask(service, "GET", "/recommend", params={"user": f"user-{row}"})
        found = [answers.json()["answers"][0]["items"] for answers in (one, alone)]
        assert lists(found[:1])[0] == (
            [item["id"] for item in found[1]],
            [item["score"] for item in found[1]],
        )
