"""``tenantry ledger``: the process that writes the bill. Nothing is asked of it by requests; it may be down for as long
as Redis has room for the events."""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from tenantry_service import logs
from tenantry_service.ledger.link import Link
from tenantry_service.writer import streams
from tenantry_service.writer.figures import Figures
from tenantry_service.writer.mover import Mover, patiently
from tenantry_service.writer.retention import Retention
from tenantry_service.writer.rollups import Publisher
from tenantry_service.writer.seeding import Seeder
from tenantry_service.writer.streams import Streams
from tenantry_service.writer.sweeper import Sweeper

#: Seconds between two scans for tenants: how long the first event of a new one may wait.
DISCOVER_SECONDS = 3.0
USAGE_ERROR = 2

log = logging.getLogger(__name__)


class StartError(Exception):
    """The process cannot start; the message names the flag and the remedy."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(
        prog="tenantry ledger",
        description="Move usage events from the tenants' streams in Redis to PostgreSQL.",
        allow_abbrev=False,
    )
    parse.add_argument(
        "--redis-file",
        type=Path,
        required=True,
        metavar="PATH",
        help="file with redis[s]://user:password@host:port/db; read again at every connection",
    )
    parse.add_argument(
        "--database-file",
        type=Path,
        required=True,
        metavar="PATH",
        help="file with postgresql://user:password@host:port/database; read again at every connection",
    )
    parse.add_argument("--host", default="0.0.0.0", help="address of /healthz, /readyz, /metrics")  # noqa: S104
    parse.add_argument("--port", type=int, default=8081, help="its port, 0 for a free one (default: 8081)")
    parse.add_argument(
        "--keep-months",
        type=int,
        default=0,
        metavar="N",
        help="drop events of months further back than N (daily sums stay); 0 keeps all (default: 0)",
    )
    parse.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. Returns 0 then, 2 if the process could not start as asked."""
    options = parser().parse_args(argv)
    logs.configure(options.log_level)
    try:
        if options.keep_months < 0:
            raise StartError(f"--keep-months: {options.keep_months} is negative; 0 keeps all")
        for flag, path in (("--redis-file", options.redis_file), ("--database-file", options.database_file)):
            _secret(path, flag)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(options))
    except StartError as error:
        sys.stderr.write(f"tenantry ledger: {error}\n")
        return USAGE_ERROR
    return 0


def _secret(path: Path, flag: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"{flag}: {path} cannot be read ({error}); mount the Secret there") from error


def secret_file(path: Path) -> Callable[[], str]:
    """What the file holds now; raises OSError while it cannot be read, which is worth another attempt."""
    return lambda: path.read_text(encoding="utf-8").strip()


async def _run(options: argparse.Namespace) -> None:
    figures = Figures()
    redis, database = secret_file(options.redis_file), secret_file(options.database_file)
    reading, removing, others, sweeping = Link(redis), Link(redis), Link(redis), Link(redis)
    watched = Streams(reading)
    mover = Mover(watched, removing, database, figures)
    publisher = Publisher(others, mover.connect, figures)
    mover.wrote = publisher.changed

    sweeper = Sweeper(sweeping, figures)
    seeder = Seeder(others, sweeper, mover.connect)
    known: list[str] = []

    async def discover() -> None:
        known[:] = await streams.tenants(others)
        figures.tenants = len(known)
        watched.watch(tuple(known))

    async def sweep() -> None:
        # Needs no PostgreSQL, and two at once do no harm.
        await sweeper.sweep(tuple(known))

    async def seed() -> None:
        if figures.writing:
            await seeder.seed()

    async def publish() -> None:
        if figures.writing:
            await publisher.publish()

    retention = Retention(mover.connect, options.keep_months, figures)

    async def retire() -> None:
        if figures.writing:
            await retention.enforce()

    try:
        runner = await _probes(figures, options.host, options.port)
    except (OSError, OverflowError) as error:
        raise StartError(
            f"--host/--port: cannot listen on {options.host}:{options.port} ({error}); choose others"
        ) from error
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    tasks = [
        asyncio.create_task(mover.run()),
        asyncio.create_task(patiently(discover, "looking for tenants", lambda: DISCOVER_SECONDS)),
        asyncio.create_task(patiently(sweep, "settling for the dead", sweeper.pause)),
        asyncio.create_task(patiently(seed, "seeding budgets", seeder.pause)),
        asyncio.create_task(patiently(publish, "writing roll-ups", publisher.pause)),
        asyncio.create_task(patiently(retire, "dropping old months", retention.pause)),
    ]
    stop = asyncio.create_task(stopping.wait())
    log.info("ledger: started", extra={"addresses": [list(address) for address in runner.addresses]})
    try:
        # None of the others may end; if one does, by a fault of ours, the process ends with it and is started anew.
        done, _ = await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stop}:
            task.result()
    finally:
        for task in (stop, *tasks):
            task.cancel()
        await asyncio.gather(stop, *tasks, return_exceptions=True)
        for link in (reading, removing, others, sweeping):
            await link.close()
        await runner.cleanup()


async def _probes(figures: Figures, host: str, port: int) -> web.AppRunner:
    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        problem = figures.problem
        return web.Response(text=f"{problem or 'ready'}\n", status=503 if problem else 200)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=figures.render(), headers={"content-type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
