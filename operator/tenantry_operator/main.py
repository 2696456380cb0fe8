"""``tenantry operator``: the process. Stand by for the Lease, then read, watch and work until told to stop.

Whatever goes wrong for good (the Lease lost, a watch that cannot be kept up) ends the process with status 1. It starts
anew with nothing in memory that could be stale, which is the same path as every other start.
"""

import argparse
import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime

import uvloop

from tenantry_operator import logs, maintenance, metrics, options, probes
from tenantry_operator.kube import config, errors
from tenantry_operator.kube.client import Client
from tenantry_operator.kube.lease import Lease
from tenantry_operator.leading import Process, lead
from tenantry_operator.page import server as page_server
from tenantry_operator.page.view import Board
from tenantry_operator.plan import names
from tenantry_operator.render import HelmRenderer, RenderError

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the operator; returns its exit status: 0 stopped as told, 1 failed, 2 wrong usage."""
    parser = options.parser()
    arguments = parser.parse_args(argv)
    options.refuse_wrong_usage(parser, arguments)
    logs.configure(arguments.log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(arguments))
    except (errors.KubeError, RenderError, OSError, ValueError) as error:
        log.error("%s", error)
        return 1


async def _run(arguments: argparse.Namespace) -> int:
    access = config.load(arguments.kubeconfig)
    identity = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    # The Lease has a client of its own: its renewals must not wait behind the writes that it guards.
    async with Client(access, manager=names.FIELD_MANAGER, request_timeout=4.0) as plain:
        if arguments.apply_crds:
            await maintenance.apply_crds(plain)
            return 0
        if arguments.release_all:
            await maintenance.release_all(
                plain, arguments.namespace, arguments.lease_name, identity, arguments.service_account
            )
            return 0
        lease = Lease(plain, namespace=arguments.namespace, name=arguments.lease_name, identity=identity)
        client = Client(
            access,
            manager=names.FIELD_MANAGER,
            observe=metrics.observe_call,
            may_write=lease.holds,
            writes_in_flight=arguments.writes_in_flight,
        )
        async with client:
            return await _operate(arguments, access, client, lease)


async def _operate(arguments: argparse.Namespace, access: config.Access, client: Client, lease: Lease) -> int:
    vitals, board = probes.Vitals(), Board()
    renderer = HelmRenderer(arguments.chart)
    process = Process(
        arguments=arguments,
        access=access,
        client=client,
        lease=lease,
        renderer=renderer,
        vitals=vitals,
        board=board,
        stop=asyncio.Event(),
    )
    process.catch_signals()
    runner = await probes.serve(vitals, host=arguments.listen, port=arguments.port)
    page = await page_server.serve(lambda: board.show(datetime.now(UTC)), port=arguments.page_port)
    try:
        await renderer.start()
        vitals.started = True
        ports = {"port": runner.addresses[0][1], "page_port": page.addresses[0][1]}
        log.info("standing by", extra={"identity": lease.identity, **ports})
        if not await _unless(process.stop, lease.acquire()):
            return 0
        log.info("leading", extra={"identity": lease.identity})
        return await lead(process)
    finally:
        await lease.release()
        await renderer.close()
        await page.cleanup()
        await runner.cleanup()


async def _unless(stop: asyncio.Event, work: Coroutine[object, object, None]) -> bool:
    """Run ``work`` to its end, or until ``stop``; whether it came to its end."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
            return True
        return False
    finally:
        for task in (working, stopping):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
