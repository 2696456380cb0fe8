"""``tenantry agent``: the process."""

import argparse
import asyncio
import logging
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tenantry_operator import logs
from tenantry_operator.agent.imds import ADDRESS, Metadata, MetadataError
from tenantry_operator.agent.notice import ACTION, LIFECYCLE, MAINTENANCE, REBALANCE, mark
from tenantry_operator.interruption import names
from tenantry_operator.interruption.signals import Mark
from tenantry_operator.kube import config, errors
from tenantry_operator.kube.client import Client, Nothing
from tenantry_operator.kube.resources import NODES

log = logging.getLogger(__name__)

#: Seconds between two looks; AWS asks for no more than one in 5 s, NTH looks every 2 s. What is announced days ahead is
#: looked at less often.
POLL = 2.0
SELDOM = 15


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="tenantry agent", description="Note on this Node what EC2 instance metadata says of its end."
    )
    add = options.add_argument
    add("--node", default=os.environ.get("NODE_NAME", ""), help="this Node's name (default: $NODE_NAME)")
    add("--metadata-address", default=ADDRESS, help="of instance metadata (%(default)s)")
    add("--kubeconfig", type=Path, help="default: the pod's service account")
    add("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run until stopped; returns 1 when the API server cannot be spoken to at all, 2 for wrong usage."""
    options = parser()
    arguments = options.parse_args(argv)
    if not arguments.node:
        options.error("--node is required: the name of the Node that this runs on")
    logs.configure(arguments.log_level)
    try:
        asyncio.run(_run(arguments))
    except (errors.ConfigError, OSError) as error:
        log.error("%s", error)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


async def _run(arguments: argparse.Namespace) -> None:
    access = config.load(arguments.kubeconfig)
    async with Client(access, manager="tenantry-agent") as client, Metadata(arguments.metadata_address) as metadata:
        await Agent(client, metadata, arguments.node).run()


class Agent:
    """Looks at instance metadata and writes what it says onto one Node, when that changes."""

    def __init__(self, client: Client, metadata: Metadata, node: str) -> None:
        self._client, self._metadata, self._node = client, metadata, node
        self._found: dict[str, str | None] = {}
        self._known: Mark | None = None
        #: A former agent may have left a notice that does not hold any more: the first look is always written.
        self._written = False

    async def run(self) -> None:
        """Look for ever. What cannot be read or written is told and tried again; until then, the last word holds."""
        turn = 0
        while True:
            try:
                await self.look(seldom=turn % SELDOM == 0)
            except (MetadataError, errors.KubeError, ValueError) as error:
                log.warning("%s", error)
            turn += 1
            await asyncio.sleep(POLL)

    async def look(self, *, seldom: bool) -> None:
        """Look once. Raises MetadataError, KubeError, and ValueError for an answer that is none of EC2's."""
        for path in (ACTION, REBALANCE, *((MAINTENANCE, LIFECYCLE) if seldom else ())):
            self._found[path] = await self._metadata.get(path)
        fresh = mark(self._found, datetime.now(UTC), self._known)
        if self._written and fresh == self._known:
            return
        self._known = fresh
        text = fresh.encode() if fresh is not None else None
        body = {"metadata": {"annotations": {names.AGENT_NOTICE: text}}}
        self._written = False
        await self._client.merge_patch(NODES, self._node, body, into=Nothing)
        self._written = True
        if fresh is not None:
            log.info("noted", extra={"kind": fresh.kind, "deadline": str(fresh.deadline or "")})
