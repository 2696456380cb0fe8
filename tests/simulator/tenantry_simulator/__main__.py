"""``python -m tenantry_simulator --port 8080``."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import fields

import uvloop

from tenantry_simulator.behaviour import Behaviour
from tenantry_simulator.server import Connection, Simulator


async def serve(simulator: Simulator, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, stop.set)
    server = await loop.create_server(lambda: Connection(simulator), host, port, backlog=4096)
    print(f"simulator listening on http://{host}:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await stop.wait()
    server.close()


def main() -> int:
    """Parse the flags and serve."""
    parser = argparse.ArgumentParser(prog="tenantry_simulator", description=__doc__)
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument(
        "--expect-key-env", metavar="NAME", help="refuse requests without the bearer key in this environment variable"
    )
    for field in fields(Behaviour):
        parser.add_argument("--" + field.name.replace("_", "-"), type=int, default=field.default)
    options = vars(parser.parse_args())
    host, port, key_name = options.pop("host"), options.pop("port"), options.pop("expect_key_env")
    expected = f"Bearer {os.environ[key_name]}" if key_name else None
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Simulator(Behaviour().changed(options), expected), host, port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
