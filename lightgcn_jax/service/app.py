"""The service as an ASGI application: requests are read and checked, answered, counted."""

from __future__ import annotations

import asyncio
import hmac
import importlib.metadata
import json
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from lightgcn_jax.errors import InputError
from lightgcn_jax.service.answering import Answering, Refused
from lightgcn_jax.service.batching import Batcher, Busy
from lightgcn_jax.service.checking import Schema, Schemas, parsed
from lightgcn_jax.service.current import Current, Loading
from lightgcn_jax.service.figures import Figures
from lightgcn_jax.service.limits import Limits
from lightgcn_jax.service.operations import Operation, openapi, operations, schemas
from lightgcn_jax.service.page_files import PAGE, read_page
from lightgcn_jax.service.ranker import ExternalId
from lightgcn_jax.service.served import Served

_ADDING = "POST", "/items"
_DISTRIBUTION = "lightgcn-pinsage-jax"
_LOADING = "the run is being loaded; try again in a moment"
_JSON = "application/json"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


Pictures = Callable[[ExternalId], bytes | None]


class Service:
    """A run behind HTTP.

    Args:
        load: opens the run, when the application starts and at each reload.
        limits: of requests.
        program: what serves.
        token: what a reload must bring; None turns reloads by HTTP off.
        pictures: gives the picture of an item as a PNG, None where it has none; None where there
            are no pictures at all.

    Attributes:
        current: the run that is served.
        settled: is called each time that a run was loaded.
    """

    def __init__(
        self,
        load: Callable[[], Served],
        limits: Limits,
        program: str,
        token: str | None = None,
        pictures: Pictures | None = None,
    ):
        self.current, self._limits, self._token = Current(load), limits, token
        self.settled: Callable[[], None] = lambda: None
        self._pictures, self._program = pictures, program
        self._batcher = Batcher(limits, self._counted)
        self._figures = Figures(lambda: len(self._batcher), lambda: self.current.loaded)
        has_pictures = pictures is not None
        self._answering = Answering(self.current, self._batcher, limits, program, has_pictures)
        self._schemas = Schemas(schemas(limits))
        self._operations: dict[tuple[str, str], Operation] = {}
        self._describe(None)

    def _counted(self, size: int) -> None:
        self._figures.batch(size)

    def _describe(self, addition: Schema | None) -> None:
        found = operations(self._limits, addition)
        if self._pictures is None:
            found = [one for one in found if one.name != "picture"]
        if self._token is None:
            found = [one for one in found if one.name != "reload"]
        self._operations = {(one.method, one.path): one for one in found}
        version = importlib.metadata.version(_DISTRIBUTION)
        self._openapi = _as_json(openapi(found, self._limits, self._program, version))

    def app(self) -> Starlette:
        """The application. It serves from the moment on that its run is loaded."""
        methods: dict[str, list[str]] = {_ADDING[1]: [_ADDING[0]]}
        for method, path in self._operations:
            methods[path] = [*methods.get(path, ()), method]
        routes = [Route(path, self._endpoint, methods=own) for path, own in methods.items()]
        routes += [Route(path, self._page, methods=["GET"]) for path in PAGE]

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            yield
            self._batcher.close()

        handlers: Mapping[Any, Any] = {HTTPException: _refused, Exception: _failed}
        return Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)

    async def load(self) -> float:
        """Load the run, beside the one that is served.

        Returns:
            The seconds that it took.

        Raises:
            Loading, InputError: as :meth:`Current.load`.
        """
        try:
            seconds = await self.current.load()
        except InputError:
            self._figures.refused.inc()
            raise
        assert self.current.served is not None
        self._describe(self.current.served.ranker.addition)
        self.settled()
        return seconds

    async def _endpoint(self, request: Request) -> Response:
        start = time.perf_counter()
        method, path = request.scope["method"], request.scope["path"]
        operation = self._operations.get(("GET" if method == "HEAD" else method, path))
        if operation is None:  # adding, where the run takes no items or is not there yet
            waits = self.current.served is None
            return _error(503, _LOADING) if waits else _error(409, "this run takes no new items")
        try:
            async with asyncio.timeout(None if operation.secured else self._limits.seconds):
                response = await self._answer(operation, request)
        except Refused as error:
            response = _error(error.status, str(error))
        except InputError as error:
            response = _error(400, str(error))
        except Busy:
            response = _error(503, "too many queries wait; try again in a moment")
        except TimeoutError:
            said = f"the answer took longer than {self._limits.seconds:g} s"
            response = _error(504, said)
        except ClientDisconnect:
            response = _error(400, "the client went away")
        except Exception as error:
            response = await _failed(request, error)
        self._figures.answered(operation.name, response.status_code, time.perf_counter() - start)
        return response

    async def _answer(self, operation: Operation, request: Request) -> Response:
        own: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "health": self._health,
            "ready": self._ready,
            "metrics": self._metrics,
            "openapi": self._description,
            "reload": self._reload,
        }
        if handler := own.get(operation.name):
            return await handler(request)
        served = self.current.served
        if served is None:
            raise Refused(503, _LOADING)
        asked = await self._asked(operation, request)
        if operation.name == "picture":
            assert self._pictures is not None
            return await self._picture(self._pictures, served, asked)
        return _response(await getattr(self._answering, operation.name)(served, asked))

    async def _asked(self, operation: Operation, request: Request) -> dict[str, Any]:
        """The parameters or the body, which fit their schema, with defaults."""
        if operation.body is None:
            asked = _parameters(operation, request)
            schema: Schema = {
                "type": "object",
                "required": operation.required,
                "properties": operation.parameters,
                "additionalProperties": False,
            }
        else:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != _JSON:
                raise Refused(415, f"content-type: expected {_JSON}")
            asked, schema = parsed(await self._body(request)), operation.body
        self._schemas.check(asked, schema, "")
        defaults = {
            name: one["default"] for name, one in schema["properties"].items() if "default" in one
        }
        return defaults | asked

    async def _body(self, request: Request) -> bytes:
        most, body = self._limits.body, bytearray()
        async for part in request.stream():
            body += part
            if len(body) > most:
                raise Refused(413, f"body: expected at most {most:,} bytes")
        return bytes(body)

    async def _health(self, _: Request) -> Response:
        return _response({"status": "alive"})

    async def _ready(self, _: Request) -> Response:
        if self.current.served is None:
            return _error(503, _LOADING)
        return _response({"status": "ready"})

    async def _metrics(self, _: Request) -> Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return Response(self._figures.text(), media_type=kind, headers=_HEADERS)

    async def _description(self, _: Request) -> Response:
        return Response(self._openapi, media_type=_JSON, headers=_HEADERS)

    async def _reload(self, request: Request) -> Response:
        given = request.headers.get("authorization", "").encode()
        expected = f"Bearer {self._token}".encode()
        if not hmac.compare_digest(given, expected):
            refusal = _error(401, "authorization: expected the token as Bearer")
            refusal.headers["WWW-Authenticate"] = "Bearer"
            return refusal
        try:
            seconds = await self.load()
        except Loading:
            raise Refused(409, "a run is being loaded already") from None
        except InputError as error:
            raise Refused(409, f"the old run goes on: {error}") from None
        served = self.current.served
        assert served is not None
        made = {"loaded": self.current.loaded, "seconds": seconds, "model": served.ranker.model}
        return _response(made)

    async def _picture(self, pictures: Pictures, served: Served, asked: Any) -> Response:
        rows = served.ranker.items.rows([asked["item"]])
        found = None
        if rows[0] >= 0:
            item = served.ranker.items.external(rows)[0]
            found = await asyncio.to_thread(pictures, item)
        if found is None:
            raise Refused(404, "there is no picture of this item")
        return Response(found, media_type="image/png", headers=_HEADERS)

    async def _page(self, request: Request) -> Response:
        text, kind = read_page(request.url.path)
        return Response(text, media_type=kind, headers={**_HEADERS, "Cache-Control": "no-cache"})


def _parameters(operation: Operation, request: Request) -> dict[str, Any]:
    """The query's parameters as their schemas type them; what does not fit stays text."""
    given: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        given.setdefault(name, []).append(value)
    asked: dict[str, Any] = {}
    for name, values in given.items():
        kind = operation.parameters.get(name, {}).get("type")
        if kind == "array":
            asked[name] = values
        elif len(values) > 1:
            raise InputError(f"{name}: expected one value, got {len(values)}")
        elif kind == "integer" and values[0].isascii() and values[0].isdecimal():
            # Longer numbers are beyond any limit, and take long to read.
            asked[name] = int(values[0][:20])
        else:
            asked[name] = values[0]
    return asked


def _as_json(value: Any) -> bytes:
    """JSON of ASCII signs alone: no id can be taken for anything else."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _response(value: Any, status: int = 200) -> Response:
    return Response(_as_json(value), status, headers=_HEADERS, media_type=_JSON)


def _error(status: int, said: str) -> Response:
    return _response({"error": said}, status)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _error(error.status_code, str(error.detail).lower())
    response.headers.update(error.headers or {})
    return response


async def _failed(_: Request, error: Exception) -> Response:
    traceback.print_exception(error, file=sys.stderr)
    return _error(500, "the service failed; its log tells why")
