"""The process that serves: its port, its signals, its end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from lightgcn_jax.errors import InputError, printable
from lightgcn_jax.interrupts import Request, deferred
from lightgcn_jax.service.app import Service
from lightgcn_jax.service.current import Loading

# How often signals are looked at, and how long requests may go on once one came.
_LOOK_SECONDS, _GRACE_SECONDS = 0.1, 30
# How long a thread may keep Python to itself while others wait: a request waits several times for
# one that loads a run.
_SWITCH_SECONDS = 0.0005
# Connections that the system keeps until they are taken, and that are served at once.
_BACKLOG, _CONNECTIONS = 512, 1024


class _Server(uvicorn.Server):
    """Leaves signals to the house, which looks at them in a thread of its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(service: Service, host: str, port: int, say: Callable[[str], None]) -> None:
    """Load the run, then serve until a signal asks for an end; requests under way are finished.

    SIGHUP loads the run anew.

    Args:
        service: the application.
        host: the address that is listened at.
        port: the port; 0 for any that is free.
        say: writes a line for whoever started this.

    Raises:
        InputError: the port is taken, or the run does not load.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    service.settled = _spare_from_collection
    listening = listening_at(host, port)
    with contextlib.closing(listening):
        asyncio.run(_serve(service, listening, say))


def _spare_from_collection() -> None:
    """Have the garbage collector pass over all that is there: to look through the modules, the
    programs and the run takes it a fifth of a second, in which nobody is answered."""
    gc.unfreeze()
    gc.collect()  # the run before
    gc.freeze()


def listening_at(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: the address.
        port: the port; 0 for any that is free.

    Raises:
        InputError: no such address, or it is taken.
    """
    with contextlib.ExitStack() as unless_fine:
        try:
            family, kind, _, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            # Only connections that name their protocol get TCP_NODELAY from asyncio; without it
            # answers on a connection that is kept wait 40 ms for the client's acknowledgement.
            listening = unless_fine.enter_context(socket.socket(family, kind, socket.IPPROTO_TCP))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(_BACKLOG)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError(
                f"--host {host} --port {port}: expected an address that is free, got: {reason}"
            ) from None
        unless_fine.pop_all()
        return listening


async def _serve(service: Service, listening: socket.socket, say: Callable[[str], None]) -> None:
    config = uvicorn.Config(
        service.app(),
        # What is installed beside must not change what is served.
        loop="asyncio",
        ws="none",
        access_log=False,
        # Its own would close the handlers of other packages, and with them what they write to.
        log_config=None,
        log_level="warning",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config)
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    say(f"loading the run; http://{shown}:{port}/health answers meanwhile")
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        seconds = await service.load()  # a signal ends this at once: nobody is answered yet
        with deferred() as request:
            say(f"ready after {seconds:.1f} s: http://{shown}:{port}/ (Ctrl-C ends it)")
            watching = asyncio.create_task(_watch(service, server, request, say))
            await asyncio.wait([serving, watching], return_when=asyncio.FIRST_COMPLETED)
            watching.cancel()
            server.should_exit = True
            await serving
    finally:
        server.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)


async def _watch(
    service: Service, server: uvicorn.Server, request: Request, say: Callable[[str], None]
) -> None:
    """Look at what signals ask for."""
    reloading, tasks = threading.Event(), set[asyncio.Task[Any]]()
    with _on_hangup(reloading):
        while not request:
            await asyncio.sleep(_LOOK_SECONDS)
            if reloading.is_set():
                reloading.clear()
                task = asyncio.create_task(_reload(service, say))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
    server.should_exit = True


async def _reload(service: Service, say: Callable[[str], None]) -> None:
    try:
        say(f"loaded the run anew in {await service.load():.1f} s")
    except Loading:
        say("a run is being loaded already")
    except InputError as error:
        say(f"the old run goes on: {printable(str(error))}")


@contextlib.contextmanager
def _on_hangup(reloading: threading.Event) -> Iterator[None]:
    """Have SIGHUP set an event, where the system has it and this is the main thread."""
    number = getattr(signal, "SIGHUP", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, lambda *_: reloading.set())
    try:
        yield
    finally:
        signal.signal(number, before)
