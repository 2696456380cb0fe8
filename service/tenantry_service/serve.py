"""``tenantry serve``: the process that serves tenants, in a pod (``--policy``) or on a laptop (``--upstream``)."""

import argparse
import asyncio
import gc
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn
import uvloop

from tenantry_service import app, laptop, logs
from tenantry_service.books import Books, OwnBooks, SharedBooks
from tenantry_service.leaving import Leaving
from tenantry_service.ledger.sqlite import SqliteLedger
from tenantry_service.ledger.sqlite_file import LedgerError
from tenantry_service.policy import PolicyError
from tenantry_service.proxy.engine import Engine
from tenantry_service.proxy.pool import Upstreams
from tenantry_service.proxy.protocol import protocol_class
from tenantry_service.proxy.snapshot import Snapshot
from tenantry_service.reload import PolicyFile
from tenantry_service.telemetry import Telemetry
from tenantry_service.watching import Watchers

#: A Spot node gives two minutes; 15 s of them belong to the node's own shutdown.
DEFAULT_DRAIN_SECONDS = 100.0
USAGE_ERROR = 2
#: How long the ledger's thread waits for the interpreter of a busy event loop, for each of its statements. It needs it
#: for some 50 us then, so a shorter wait costs requests nothing and keeps the queue short.
SWITCH_SECONDS = 0.001

#: How many objects more than before make the collector look at the young ones. At full speed most are requests under
#: way and rows that wait for the ledger. Python's 700 has them looked at again and again, the old ones too, for up to
#: 50 ms at a time. Requests and connections need no collector, whichever way they end.
YOUNG_OBJECTS = 20_000
#: After more than so many looks at younger objects, older ones are looked at too. Python's 10 goes with its 700: here,
#: the oldest would be looked at when there are 2.4 million more, and with them whatever else only the collector frees.
#: So it is when there are 180,000 more.
YOUNG_LOOKS = 2

log = logging.getLogger(__name__)

Background = Callable[[Engine], Awaitable[None]]


class StartError(Exception):
    """The process cannot start; the message names the flag or field and the remedy."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(
        prog="tenantry serve",
        description="Serve an OpenAI-compatible endpoint with keys, limits and a ledger.",
        allow_abbrev=False,
    )
    source = parse.add_mutually_exclusive_group(required=True)
    source.add_argument("--policy", type=Path, metavar="PATH", help="policy document; taken over again when it changes")
    source.add_argument(
        "--upstream", metavar="URL", help="serve this OpenAI-compatible server on a laptop: makes a key and prints it"
    )
    parse.add_argument(
        "--upstream-key-file",
        type=Path,
        metavar="PATH",
        help="with --upstream: its credential (default: $OPENAI_API_KEY)",
    )
    parse.add_argument("--host", help="address to listen on (default: 0.0.0.0, with --upstream 127.0.0.1)")
    parse.add_argument("--port", type=int, default=8000, help="port to listen on, 0 for a free one (default: 8000)")
    parse.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="where the ledger (and the laptop's key) are kept (default: /var/lib/tenantry, with --upstream "
        f"{laptop.default_state_dir()})",
    )
    parse.add_argument(
        "--redis-file",
        type=Path,
        metavar="PATH",
        help="a file with the address of Redis (redis[s]://user:password@host:port/db), read again when it changes: "
        "limits are then shared by all replicas, and usage goes to the ledger through Redis (default: both stay here)",
    )
    parse.add_argument(
        "--drain-seconds",
        type=float,
        default=DEFAULT_DRAIN_SECONDS,
        help="how long requests may take to end after SIGTERM (default: 100)",
    )
    parse.add_argument(
        "--traces-endpoint",
        metavar="URL",
        help="send a span for each request there, as OTLP over HTTP (default: what OTEL_EXPORTER_OTLP_ENDPOINT says)",
    )
    parse.add_argument(
        "--traces-ratio",
        type=float,
        default=1.0,
        metavar="0..1",
        help="share of the requests without a traceparent of their own that is traced (default: 1)",
    )
    parse.add_argument("--access-log", action="store_true", help="print a line of JSON for each request")
    parse.add_argument(
        "--handover-dir",
        type=Path,
        metavar="DIR",
        help="where the pod's own label tenantry.dev/serve (as file serve) and annotation tenantry.dev/streams-end-at"
        " (as streams-end-at) are mounted: they tell that its node goes away, and when",
    )
    parse.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. Returns 0 after an orderly end, 1 if usage could not be written, 2 if the process
    could not start as asked."""
    options = parser().parse_args(argv)
    logs.configure(options.log_level)
    try:
        return _serve(options)
    except StartError as error:
        sys.stderr.write(f"tenantry serve: {error}\n")
        return USAGE_ERROR


def _serve(options: argparse.Namespace) -> int:
    if options.upstream_key_file is not None and options.upstream is None:
        raise StartError("--upstream-key-file goes with --upstream; a policy names its credential files itself")
    if not 0 <= options.drain_seconds <= 86_400:
        raise StartError(f"--drain-seconds: {options.drain_seconds:g} is not between 0 and 86400")
    on_laptop = options.upstream is not None
    state_dir: Path = options.state_dir or (laptop.default_state_dir() if on_laptop else Path("/var/lib/tenantry"))
    policy_file: PolicyFile | None = None
    key = ""
    try:
        if on_laptop:
            key = laptop.own_key(state_dir)
            credential = laptop.upstream_credential(options.upstream_key_file, os.environ)
            snapshot = laptop.snapshot(options.upstream, key, credential)
        else:
            policy_file = PolicyFile(options.policy)
            snapshot = policy_file.load()
    except PolicyError as error:
        raise StartError(str(error)) from error
    try:
        watchers = Watchers(
            options.traces_endpoint, options.traces_ratio, access_log=options.access_log, environment=os.environ
        )
    except ValueError as error:
        raise StartError(str(error)) from error
    listener = _bind(options.host or ("127.0.0.1" if on_laptop else "0.0.0.0"), options.port)  # noqa: S104
    books: Callable[[], Books]
    try:
        if options.redis_file is None:
            books = partial(OwnBooks, SqliteLedger(state_dir / "ledger.sqlite"))
        else:
            books = partial(SharedBooks, options.redis_file, state_dir)
    except LedgerError as error:
        listener.close()
        raise StartError(f"--state-dir: {error}") from error
    welcome = laptop.welcome(listener.getsockname(), key, state_dir) if on_laptop else ""
    sys.setswitchinterval(SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        leaving = None if options.handover_dir is None else Leaving(options.handover_dir)
        unwritten = runner.run(
            _run(snapshot, policy_file, books, watchers, listener, options.drain_seconds, welcome, leaving)
        )
    watchers.close()
    if unwritten:
        log.error("usage events could not be written", extra={"events": unwritten})
    return 1 if unwritten else 0


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise StartError(f"--host/--port: cannot listen on {host}:{port} ({error}); choose others") from error
    listener.setblocking(False)
    return listener


class Server(uvicorn.Server):
    """uvicorn's server, but a signal begins a drain during which connections are still accepted and told to come back.
    A second signal ends at once. ``welcome`` is printed once there is somebody to answer (and to end in good order)."""

    def __init__(self, config: uvicorn.Config, welcome: str) -> None:
        super().__init__(config)
        self._welcome = welcome
        self._loop = asyncio.get_running_loop()
        self.drain_asked = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        await super().startup(sockets)
        sys.stdout.write(self._welcome)
        sys.stdout.flush()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM or SIGINT."""
        if self.drain_asked.is_set():
            self.should_exit = self.force_exit = True
        self._loop.call_soon_threadsafe(self.drain_asked.set)


async def _run(
    snapshot: Snapshot,
    policy_file: PolicyFile | None,
    open_books: Callable[[], Books],
    watchers: Watchers,
    listener: socket.socket,
    drain_seconds: float,
    welcome: str,
    leaving: Leaving | None,
) -> int:
    """Serve; returns how many usage events could not be written."""
    telemetry = Telemetry()
    books = open_books()
    telemetry.ledger_figures = books.figures
    telemetry.tasks = lambda: len(asyncio.all_tasks())
    engine = Engine(books.limiter, books.ledger, telemetry, Upstreams())
    engine.swap(snapshot)
    watchers.join(engine)
    server = Server(
        uvicorn.Config(
            app.build(engine, books.usage),
            http=protocol_class(engine),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            backlog=4096,
            timeout_graceful_shutdown=5,
        ),
        welcome,
    )

    async def drain() -> None:
        await server.drain_asked.wait()
        log.info("draining", extra={"in_flight": telemetry.in_flight, "drain_seconds": drain_seconds})
        await engine.drain(drain_seconds)
        server.should_exit = True

    keeping = asyncio.create_task(books.run())
    background = [asyncio.create_task(engine.sweep()), asyncio.create_task(drain())]
    if policy_file is not None:
        background.append(asyncio.create_task(policy_file.watch(engine)))
    if leaving is not None:
        background.append(asyncio.create_task(leaving.watch(engine)))
    for task in (keeping, *background):
        task.add_done_callback(partial(_on_background_end, server))
    await books.ready()
    # What is there now stays: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_LOOKS, YOUNG_LOOKS)
    try:
        await server.serve(sockets=[listener])
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        engine.catch_up()
        unwritten = await books.finish()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    return unwritten


def _on_background_end(server: Server, task: asyncio.Task[None]) -> None:
    """None of them may fail, and nothing good comes of going on without one: finish what is under way and end."""
    if task.cancelled() or task.exception() is None:
        return
    log.critical("a background task failed, the process ends", exc_info=task.exception())
    if server.drain_asked.is_set():
        server.should_exit = True
    server.drain_asked.set()
