"""Requests that arrive together become one call of the model.

Nobody waits for others to come: while a call is under way in its thread, those that arrive gather,
and are the next one. So a lone request is answered at once, and the more there are the larger are
the batches.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any, NamedTuple, TypeVar

from lightgcn_jax.service.limits import Limits
from lightgcn_jax.service.served import Answer, Query, Served

_Result = TypeVar("_Result")


class Busy(Exception):
    """Too many queries wait."""


class _Waiting(NamedTuple):
    served: Served
    query: Query
    answer: asyncio.Future[Answer]

    def goes_with(self, other: _Waiting) -> bool:
        return self.query.kind == other.query.kind and self.served is other.served


class Batcher:
    """Queues queries and answers them in one thread, in which all of the model is called.

    A query is answered by the run that was served when it came.

    Args:
        limits: of a batch, and of what waits.
        told: is told the size of each batch.
    """

    def __init__(self, limits: Limits, told: Callable[[int], None] = lambda _: None):
        self._limits, self._told = limits, told
        self._waiting: deque[_Waiting] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._working: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many queries wait."""
        return len(self._waiting)

    async def ask(self, served: Served, queries: Sequence[Query]) -> list[Answer]:
        """Wait for the answers to some queries.

        Args:
            served: the run that answers.
            queries: of any kinds.

        Raises:
            Busy: too many wait already.
        """
        if len(self._waiting) + len(queries) > self._limits.waiting:
            raise Busy
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Answer]] = [loop.create_future() for _ in queries]
        self._waiting.extend(map(_Waiting, repeat(served), queries, futures))
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        try:
            return [await future for future in futures]
        finally:
            for future in futures:  # those of a request that gave up are not worked on
                future.cancel()

    async def call(self, function: Callable[..., _Result], *given: Any) -> _Result:
        """Call something in the model's thread.

        Args:
            function: what is called.
            given: its arguments.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *given)

    async def _work(self) -> None:
        """Answer until nobody waits."""
        try:
            while batch := self._next():
                self._told(len(batch))
                queries = [one.query for one in batch]
                try:
                    answers = await self.call(batch[0].served.answer, queries)
                except Exception as error:
                    for one in batch:
                        if not one.answer.done():
                            one.answer.set_exception(error)
                    continue
                for one, answer in zip(batch, answers, strict=True):
                    if not one.answer.done():
                        one.answer.set_result(answer)
        finally:
            self._working = None

    def _next(self) -> list[_Waiting]:
        """The query that has waited longest and others that go with it, which are taken out."""
        batch: list[_Waiting] = []
        others: deque[_Waiting] = deque()
        while self._waiting and (not batch or len(batch) < batch[0].served.batch):
            one = self._waiting.popleft()
            if one.answer.done():
                continue
            if batch and not one.goes_with(batch[0]):
                others.append(one)
            else:
                batch.append(one)
        self._waiting.extendleft(reversed(others))
        return batch

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=True)
