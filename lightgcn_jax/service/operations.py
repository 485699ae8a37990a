"""What can be asked of the service: every path with its parameters, its body and its answer.

Requests are checked against these schemas, and ``/openapi.json`` publishes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lightgcn_jax.service.checking import Schema
from lightgcn_jax.service.limits import Limits

_INT64 = 2**63
_NO_PARAMETERS: Mapping[str, Schema] = {}


class Operation(NamedTuple):
    """One way to ask.

    Attributes:
        name: of the handler.
        method: of HTTP.
        path: of the URL.
        summary: what it does, a sentence.
        answer: schema of the answer; None where that is no JSON.
        parameters: schemas of the query's parameters; an array may stand repeatedly.
        required: the parameters that must stand.
        body: schema of the body; None where there is none.
        errors: the statuses of its own refusals.
        kind: the media type of the answer.
        secured: whether it needs the token.
        waits: whether it needs a run that is ready.
    """

    name: str
    method: str
    path: str
    summary: str
    answer: Schema | None = None
    parameters: Mapping[str, Schema] = _NO_PARAMETERS
    required: tuple[str, ...] = ()
    body: Schema | None = None
    errors: tuple[int, ...] = ()
    kind: str = "application/json"
    secured: bool = False
    waits: bool = True


def _object(required: Mapping[str, Schema], **optional: Schema) -> Schema:
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **optional},
        "additionalProperties": False,
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(of: Schema, **bounds: int) -> Schema:
    return {"type": "array", "items": of, **bounds}


_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}
_COUNT = {"type": "integer", "minimum": 0}
_ID = _ref("Id")
_IDS = _list(_ID)
_STATUS = {"type": "string", "enum": ["known", "cold", "unknown"]}


def schemas(limits: Limits) -> dict[str, Schema]:
    """The schemas that others refer to.

    Args:
        limits: of requests.
    """
    integer = {"type": "integer", "minimum": -_INT64, "maximum": _INT64 - 1}
    text = {"type": "string", "minLength": 1, "maxLength": limits.id_length}
    title = {"type": ["string", "null"]}
    item = _object({"id": _ref("AnyId"), "title": title})
    ranked = _object({"id": _ref("AnyId"), "title": title, "score": _NUMBER})
    reason = _object({"id": _ref("AnyId"), "title": title, "value": _NUMBER})
    source = {"type": "string", "enum": ["model", "popularity", "nothing"]}
    listed = {"status": _STATUS, "source": source, "items": _list(_ref("Ranked"))}
    point = _object(
        {"id": _ref("AnyId"), "title": title, "x": _NUMBER, "y": _NUMBER, "group": _COUNT}
    )
    return {
        "Id": {"oneOf": [integer, text], "description": "An id of the data."},
        "AnyId": {"oneOf": [{"type": "integer"}, {"type": "string"}]},
        "Item": item,
        "Ranked": ranked,
        "Reason": reason,
        "Point": point,
        "ForUser": _object({"user": _ref("AnyId"), **listed}, note=_TEXT),
        "ForItem": _object({"item": _ref("AnyId"), **listed}, note=_TEXT),
        "ForItems": _object(
            {**listed, "unknown": _list(_ref("AnyId")), "cold": _list(_ref("AnyId"))}, note=_TEXT
        ),
        "Explained": _object(
            {"item": _ref("AnyId"), "status": _STATUS, "because": _list(_ref("Reason"))}
        ),
        "Error": _object({"error": _TEXT}),
    }


def operations(limits: Limits, addition: Schema | None) -> list[Operation]:
    """All that can be asked.

    Args:
        limits: of requests.
        addition: schema of an item that can be added; None where none can.
    """
    k = {"type": "integer", "minimum": 1, "maximum": limits.k, "default": min(20, limits.k)}
    some = _list(_ID, minItems=1, maxItems=limits.ids)
    exclude = _list(_ID, minItems=0, maxItems=limits.ids)
    search = {"type": "string", "maxLength": limits.id_length, "default": ""}
    listing = {"k": k, "exclude": exclude}
    for_users = _object({"answers": _list(_ref("ForUser"))})
    found = [
        Operation(
            "recommend", "GET", "/recommend",
            "Recommends items to users, who are not offered what they have.",
            for_users, {"user": some, **listing}, ("user",),
        ),
        Operation(
            "recommend", "POST", "/recommend",
            "Recommends items to users, who are not offered what they have.",
            for_users, body=_object({"users": some}, **listing),
        ),
        Operation(
            "recommend_from", "POST", "/recommend-from",
            "Recommends items to somebody who was never seen, by items that they have.",
            _ref("ForItems"),
            body=_object({"items": {**some, "minItems": 0}}, **listing), errors=(409,),
        ),
        Operation(
            "similar", "GET", "/similar", "Finds the nearest items of items.",
            _object({"answers": _list(_ref("ForItem"))}), {"item": some, **listing}, ("item",),
            errors=(409,),
        ),
        Operation(
            "explain", "POST", "/explain",
            "Says which of somebody's items speak for items, and how much. Give either user or "
            "items; of a long history the first items count.",
            _object(
                {"number": _TEXT, "adds_up": {"type": "boolean"},
                 "answers": _list(_ref("Explained"))}
            ),
            body=_object({"explained": some}, user=_ID, items=some, k=k), errors=(404, 409),
        ),
        Operation(
            "search", "GET", "/items",
            "Finds items by a part of their title, or by their id; the most popular ones without.",
            _object({"items": _list(_ref("Item"))}), {"search": search, "k": k},
        ),
        Operation(
            "history", "GET", "/history", "Lists what a user has.",
            _object({"user": _ref("AnyId"), "status": _STATUS, "items": _list(_ref("Item")),
                     "count": _COUNT}),
            {"user": _ID}, ("user",),
        ),
        Operation(
            "plane", "GET", "/map", "Gives the best-known items' places on a plane.",
            _object({"how": _TEXT, "groups": _list(_TEXT), "points": _list(_ref("Point"))}),
        ),
        Operation(
            "about", "GET", "/about", "Says what is served, and within what limits.",
            _object(
                {"program": _TEXT, "model": _TEXT, "users": _COUNT, "items": _COUNT,
                 "has_titles": {"type": "boolean"}, "has_pictures": {"type": "boolean"},
                 "adds_items": {"type": "boolean"}, "loaded": _COUNT,
                 "example_users": _list(_ref("AnyId")),
                 "limits": {"type": "object", "additionalProperties": _NUMBER}}
            ),
        ),
        Operation(
            "picture", "GET", "/picture", "Gives the picture of an item.",
            None, {"item": _ID}, ("item",), errors=(404,), kind="image/png",
        ),
        Operation(
            "reload", "POST", "/reload",
            "Loads the run anew beside the old one, and swaps them once it is ready.",
            _object({"loaded": _COUNT, "seconds": _NUMBER, "model": _TEXT}),
            errors=(401, 404, 409), secured=True, waits=False,
        ),
        Operation("health", "GET", "/health", "Says that the process lives.",
                  _object({"status": _TEXT}), waits=False),
        Operation("ready", "GET", "/ready", "Says whether requests are answered.",
                  _object({"status": _TEXT}), waits=False, errors=(503,)),
        Operation("metrics", "GET", "/metrics", "Gives figures for Prometheus.",
                  kind="text/plain", waits=False),
        Operation("openapi", "GET", "/openapi.json", "Gives this description.",
                  {"type": "object"}, waits=False),
    ]  # fmt: skip
    if addition is not None:
        found.append(
            Operation(
                "add", "POST", "/items",
                "Adds an item, which is found and recommended until the run is loaded anew.",
                _object({"id": _ref("AnyId"), "said": _TEXT}), body=addition, errors=(409,),
            )
        )  # fmt: skip
    return found


_SAID = {
    400: "The request does not fit its description.",
    401: "The token is missing or wrong.",
    404: "There is no such thing.",
    409: "The run cannot do that.",
    413: "The body is too long.",
    415: "The body is no application/json.",
    500: "A fault of the service, which its log tells of.",
    503: "The service is not ready, or too much waits.",
    504: "The request took too long.",
}


def openapi(found: list[Operation], limits: Limits, program: str, version: str) -> dict[str, Any]:
    """The description in OpenAPI 3.1.

    Args:
        found: all operations.
        limits: of requests.
        program: what serves.
        version: its version.
    """
    paths: dict[str, Any] = {}
    for one in found:
        paths.setdefault(one.path, {})[one.method.lower()] = _described(one)
    return {
        "openapi": "3.1.0",
        "info": {"title": program, "version": version},
        "paths": paths,
        "components": {
            "schemas": schemas(limits),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _described(one: Operation) -> dict[str, Any]:
    media: dict[str, Any] = {"schema": one.answer} if one.answer else {"schema": {}}
    answers = {"200": {"description": "The answer.", "content": {one.kind: media}}}
    statuses = {400, 500, *one.errors}
    if one.waits:
        statuses |= {503, 504}
    if one.body is not None:
        statuses |= {413, 415}
    for status in sorted(statuses):
        answers[str(status)] = {
            "description": _SAID[status],
            "content": {"application/json": {"schema": _ref("Error")}},
        }
    described: dict[str, Any] = {
        "operationId": f"{one.method.lower()}_{one.name}",
        "summary": one.summary,
        "responses": answers,
    }
    if one.parameters:
        described["parameters"] = [
            {"name": name, "in": "query", "required": name in one.required, "schema": schema}
            for name, schema in one.parameters.items()
        ]
    if one.body is not None:
        content = {"application/json": {"schema": one.body}}
        described["requestBody"] = {"required": True, "content": content}
    if one.secured:
        described["security"] = [{"token": []}]
    return described
