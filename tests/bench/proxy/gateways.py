"""The contenders: how each is configured for the two upstreams and started on its core."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from tests.bench.proxy.chat import MODEL, STREAM_MODEL
from tests.bench.proxy.process import free_ports
from tests.bench.proxy.programs import Programs

CONFIGS = Path(__file__).parent / "configs"

#: The key that every request carries. Only two contenders look at it, but all have to read its header.
KEY = f"tn_benchmark234_{secrets.token_hex(20)}"


@dataclass(frozen=True)
class Upstreams:
    """The ports of 127.0.0.1 where plain answers and streams come from."""

    plain: int
    streams: int


@dataclass(frozen=True)
class Target:
    """Where to send which requests."""

    port: int
    stream_port: int
    path: str = "/v1/chat/completions"
    model: str = MODEL
    stream_model: str = STREAM_MODEL


@dataclass(frozen=True)
class Launch:
    """What to run. A gateway that chooses its port itself says it in its output: `port_pattern` finds it there."""

    argv: Sequence[str | Path]
    target: Target
    env: Mapping[str, str] = field(default_factory=dict)
    port_pattern: re.Pattern[str] | None = None


#: Writes what its gateway needs into a directory of its own.
Prepare = Callable[[Path, Upstreams, Programs], Launch]


@dataclass(frozen=True)
class Gateway:
    """`streams` is how many streams at once, of how many chunks, are measured for CPU per chunk; `crowd`, how many
    open streams are looked after without a loss; `least_s`, how long a load of plain requests lasts at least. LiteLLM
    gets loads that it can bear, and takes a second for 64 answers."""

    name: str
    prepare: Prepare
    streams: int = 64
    chunks: int = 900
    crowd: int = 2000
    ready_within_s: float = 20.0
    least_s: float = 1.0


def configuration(name: str, directory: Path, /, **values: object) -> Path:
    """Fill a template of `configs` in and write it to `directory`."""
    text = Template((CONFIGS / name).read_text()).substitute({key: str(value) for key, value in values.items()})
    path = directory / name
    path.write_text(text)
    return path


def _models(upstreams: Upstreams) -> dict[str, object]:
    return {
        "model": MODEL,
        "stream_model": STREAM_MODEL,
        "upstream_port": upstreams.plain,
        "upstream_stream_port": upstreams.streams,
    }


def ours(directory: Path, upstreams: Upstreams, programs: Programs) -> Launch:
    """Tenantry with everything on that a tenant's pod has without Redis: key check, limits, budget, ledger."""
    policy = {
        "apiVersion": "policy.tenantry.dev/v1",
        "tenant": "bench",
        "generation": 1,
        "revision": "bench",
        "keys": [{"id": KEY.split("_")[1], "name": "default", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}],
        # Limits that count and never refuse.
        "limits": {
            "requestsPerMinute": 100_000_000,
            "tokensPerMinute": 10_000_000_000,
            "concurrentRequests": 100_000,
        },
        "budget": {"amountNanoUsd": 1_000_000_000_000_000, "window": "Month"},
        "models": {"allow": ["gpt-4o*"]},
        "upstreams": [
            {"name": "plain", "baseUrl": f"http://127.0.0.1:{upstreams.plain}/v1", "models": [MODEL]},
            {"name": "streams", "baseUrl": f"http://127.0.0.1:{upstreams.streams}/v1", "models": [STREAM_MODEL]},
        ],
    }
    (directory / "policy.json").write_text(json.dumps(policy))
    with free_ports(1) as (port,):
        pass
    argv: list[str | Path] = [programs.python, "-m", "tenantry", "serve", "--policy", directory / "policy.json"]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--state-dir", directory / "state"]
    return Launch(argv, Target(port, port), {"PYTHONPATH": os.pathsep.join(map(str, programs.service))})


def envoy(directory: Path, upstreams: Upstreams, programs: Programs) -> Launch:
    """Bare Envoy with one worker: no key, no limit, no log."""
    with free_ports(2) as (port, stream_port):
        pass
    ports = {"port": port, "stream_port": stream_port}
    config = configuration("envoy.yaml", directory, **ports, **_models(upstreams))
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return Launch([programs.envoy(), "-c", config, *options], Target(port, stream_port))


#: TensorZero's gateway as its Python package starts it; it takes a port of its own choice.
START_TENSORZERO = """
import asyncio, sys
from tensorzero.tensorzero import _start_http_gateway

async def main() -> None:
    gateway = await _start_http_gateway(
        config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=True)
    print("listening on", gateway.base_url, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def tensorzero(directory: Path, upstreams: Upstreams, programs: Programs) -> Launch:
    """TensorZero without a store: no key, no limit, no log."""
    config = configuration("tensorzero.toml", directory, **_models(upstreams))
    prefix = "tensorzero::model_name::"
    target = Target(0, 0, "/openai/v1/chat/completions", prefix + MODEL, prefix + STREAM_MODEL)
    return Launch(
        [programs.pythons["tensorzero"], "-c", START_TENSORZERO, config],
        target,
        port_pattern=re.compile(r"listening on http://127\.0\.0\.1:(\d+)"),
    )


def litellm(directory: Path, upstreams: Upstreams, programs: Programs) -> Launch:
    """LiteLLM's proxy with one worker and a master key: no database, no Redis, no callback."""
    with free_ports(1) as (port,):
        pass
    config = configuration("litellm.yaml", directory, key=KEY, **_models(upstreams))
    start = "import sys; from litellm import run_server; sys.argv[0] = 'litellm'; run_server()"
    options: list[str | Path] = ["--config", config, "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"}
    return Launch([programs.pythons["litellm"], "-c", start, *options], Target(port, port), env)


GATEWAYS = {
    gateway.name: gateway
    for gateway in (
        Gateway("ours", ours),
        Gateway("envoy", envoy),
        Gateway("tensorzero", tensorzero),
        Gateway("litellm", litellm, streams=16, chunks=100, crowd=0, ready_within_s=90.0, least_s=5.0),
    )
}

#: The load without a gateway in between: what the upstreams and the load take by themselves.
DIRECT = Gateway(
    "direct", lambda directory, upstreams, programs: Launch([], Target(upstreams.plain, upstreams.streams))
)
