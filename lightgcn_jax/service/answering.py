"""What each operation does with a request that fits its description."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from lightgcn_jax.errors import InputError
from lightgcn_jax.service.batching import Batcher
from lightgcn_jax.service.current import Current
from lightgcn_jax.service.limits import Limits
from lightgcn_jax.service.served import Answer, Kind, Query, Served

_USER_NOTES = {
    "cold": "no training interaction names this user: popular items are the answer",
    "unknown": "nobody by this id is known: popular items are the answer",
}
_ITEM_NOTES = {
    "cold": "no training interaction names this item: it has no neighbours",
    "unknown": "no item by this id is known",
}
_LIST_NOTE = "nothing is known of these items: popular items are the answer"
_EXAMPLES = 5


class Refused(Exception):
    """A request that cannot be answered.

    Args:
        status: of HTTP.
        said: why, a sentence.
    """

    def __init__(self, status: int, said: str):
        super().__init__(said)
        self.status = status


class Answering:
    """The operations that ask the run; each is given the run and what was asked.

    Args:
        current: the run that is served.
        batcher: what calls the model.
        limits: of requests.
        program: what serves.
        has_pictures: whether there are pictures of items.
    """

    def __init__(
        self,
        current: Current,
        batcher: Batcher,
        limits: Limits,
        program: str,
        has_pictures: bool = False,
    ):
        self._current, self._batcher, self._limits = current, batcher, limits
        self._program, self._has_pictures = program, has_pictures

    async def recommend(self, served: Served, asked: Mapping[str, Any]) -> Any:
        """Recommend to users.

        Args:
            served: the run.
            asked: ``user`` or ``users``, ``k``, ``exclude``.
        """
        users = asked["user"] if "user" in asked else asked["users"]
        answers = await self._ask(served, "user", users, asked)
        named = zip(users, answers, strict=True)
        return {
            "answers": [
                {"user": user, **_listed(one, _USER_NOTES.get(one.status))} for user, one in named
            ]
        }

    async def similar(self, served: Served, asked: Mapping[str, Any]) -> Any:
        """Find the nearest items.

        Args:
            served: the run.
            asked: ``item``, ``k``, ``exclude``.
        """
        answers = await self._ask(served, "similar", asked["item"], asked)
        named = zip(asked["item"], answers, strict=True)
        return {
            "answers": [
                {"item": item, **_listed(one, _ITEM_NOTES.get(one.status))} for item, one in named
            ]
        }

    async def recommend_from(self, served: Served, asked: Mapping[str, Any]) -> Any:
        """Recommend by a list of items.

        Args:
            served: the run.
            asked: ``items``, ``k``, ``exclude``.
        """
        (one,) = await self._ask(served, "items", [tuple(asked["items"])], asked)
        note = _LIST_NOTE if one.status != "known" else None
        left_out = {"unknown": list(one.unknown), "cold": list(one.cold)}
        return {**_listed(one, note), **left_out}

    async def _ask(
        self, served: Served, kind: Kind, asked: Sequence[Any], options: Mapping[str, Any]
    ) -> list[Answer]:
        k, exclude = options["k"], tuple(options.get("exclude", ()))
        answers = await self._batcher.ask(served, [Query(kind, one, k, exclude) for one in asked])
        for one in answers:
            if one.failed:
                raise Refused(409, one.failed)
        return answers

    async def explain(self, served: Served, asked: Mapping[str, Any]) -> Any:
        """Say which of somebody's items speak for items.

        Args:
            served: the run.
            asked: ``explained``, ``user`` or ``items``, ``k``.
        """
        if ("user" in asked) == ("items" in asked):
            raise Refused(400, "explain: expected either user or items")
        return await self._batcher.call(self._explained, served, asked)

    def _explained(self, served: Served, asked: Mapping[str, Any]) -> Any:
        user = asked.get("user")
        if "user" in asked:
            given = served.history(user)
            if not given:
                raise Refused(404, f"user: nothing is known of {_quoted(user)}")
        else:
            given = asked["items"]
        explained, items = list(dict.fromkeys(asked["explained"])), served.ranker.items
        known = [one for one in explained if items.rows([one])[0] >= 0]
        try:
            because = served.because(given, known, user)
        except InputError as error:
            raise Refused(409, str(error)) from None
        titles = dict(zip(because.given, served.catalogue.titles_of(because.given), strict=True))
        columns = dict(zip(known, because.values.T, strict=True))
        answers = []
        for one in explained:
            if one not in columns:
                answers.append({"item": one, "status": "unknown", "because": []})
                continue
            values = columns[one]
            order = (-values).argsort(kind="stable")[: asked["k"]].tolist()
            reasons = [
                {
                    "id": because.given[at],
                    "title": titles[because.given[at]],
                    "value": float(values[at]),
                }
                for at in order
            ]
            answers.append({"item": one, "status": "known", "because": reasons})
        return {"number": because.number, "adds_up": because.adds_up, "answers": answers}

    async def search(self, served: Served, asked: Mapping[str, Any]) -> Any:
        """Find items by title.

        Args:
            served: the run.
            asked: ``search``, ``k``.
        """
        found = await asyncio.to_thread(served.catalogue.search, asked["search"], asked["k"])
        return {"items": _named(served, found)}

    async def history(self, served: Served, asked: Mapping[str, Any]) -> Any:
        """List what a user has.

        Args:
            served: the run.
            asked: ``user``.
        """
        user = asked["user"]
        own = served.history(user)
        warm = bool(served.ranker.knows_user([user])[0])
        known = served.ranker.users.rows([user])[0] >= 0
        status = "known" if warm else "cold" if known else "unknown"
        shown = _named(served, own[: self._limits.ids])
        return {"user": user, "status": status, "items": shown, "count": len(own)}

    async def plane(self, served: Served, _: Mapping[str, Any]) -> Any:
        """Give the map.

        Args:
            served: the run.
        """
        plane = self._current.plane
        if plane is None:
            how = f"There is no map: {served.ranker.model} has no vectors of items."
            return {"how": how, "groups": [], "points": []}
        columns = plane.ids, plane.titles, plane.places.tolist(), plane.groups.tolist()
        points = [
            {"id": one, "title": title, "x": round(x, 4), "y": round(y, 4), "group": group}
            for one, title, (x, y), group in zip(*columns, strict=True)
        ]
        return {"how": plane.how, "groups": plane.names, "points": points}

    async def about(self, served: Served, _: Mapping[str, Any]) -> Any:
        """Say what is served.

        Args:
            served: the run.
        """
        ranker, limits = served.ranker, self._limits
        return {
            "program": self._program,
            "model": ranker.model,
            "users": len(ranker.users),
            "items": len(ranker.items),
            "has_titles": served.catalogue.has_titles,
            "has_pictures": self._has_pictures,
            "adds_items": ranker.addition is not None,
            "loaded": self._current.loaded,
            "example_users": ranker.users.ids.head(_EXAMPLES).to_list(),
            "limits": {
                "k": limits.k, "ids": limits.ids, "id_length": limits.id_length,
                "body": limits.body, "seconds": limits.seconds,
            },
        }  # fmt: skip

    async def add(self, served: Served, asked: Mapping[str, Any]) -> Any:
        """Add an item.

        Args:
            served: the run.
            asked: of the schema of additions.
        """
        if served.ranker.addition is None:
            raise Refused(409, f"{served.ranker.model} takes no new items")
        try:
            said = await self._batcher.call(served.add, asked)
        except InputError as error:
            raise Refused(409, str(error)) from None
        return {"id": asked["id"], "said": said}


def _listed(answer: Answer, note: str | None) -> dict[str, Any]:
    columns = answer.ranked.ids, answer.titles, answer.ranked.scores.tolist()
    items = [
        {"id": one, "title": title, "score": score}
        for one, title, score in zip(*columns, strict=True)
    ]
    made = {"status": answer.status, "source": answer.source, "items": items}
    return {**made, "note": note} if note else made


def _named(served: Served, ids: Sequence[Any]) -> list[dict[str, Any]]:
    titles = served.catalogue.titles_of(ids)
    return [{"id": one, "title": title} for one, title in zip(ids, titles, strict=True)]


def _quoted(value: Any) -> str:
    return ascii(value)
