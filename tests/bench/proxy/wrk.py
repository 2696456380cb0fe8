"""Requests per second and latencies with wrk, whose summary `configs/wrk.lua` prints as JSON."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import msgspec

SCRIPT = Path(__file__).parent / "configs" / "wrk.lua"

#: Seconds after which an answer counts as an error. LiteLLM takes most of a second at 64 connections.
ANSWER_TIMEOUT_S = 30


class LoadFailed(Exception):  # noqa: N818 - says what happened
    """The load could not be put on a gateway, or not every answer was a good one."""


class _Summary(msgspec.Struct):
    requests: int
    duration_us: int
    p50_us: float
    p99_us: float
    errors: int


@dataclass(frozen=True)
class Load:
    """What one run of wrk saw."""

    requests: int
    requests_per_s: float
    p50_us: float
    p99_us: float


def parse(output: str) -> Load:
    """Read the line of JSON in wrk's output.

    Raises:
        LoadFailed: there is none, nothing was answered, or an answer was an error (fast errors are no throughput).
    """
    line = next((line for line in output.splitlines() if line.startswith("{")), None)
    if line is None:
        raise LoadFailed(f"wrk printed no summary: {output.strip() or 'nothing'}")
    summary = msgspec.json.decode(line, type=_Summary)
    if summary.errors or not summary.requests:
        raise LoadFailed(f"{summary.errors} errors beside {summary.requests} answers")
    return Load(
        requests=summary.requests,
        requests_per_s=summary.requests * 1e6 / summary.duration_us,
        p50_us=summary.p50_us,
        p99_us=summary.p99_us,
    )


def run(
    wrk: str, url: str, body: str, key: str, connections: int, seconds: float, core: int, env: dict[str, str]
) -> Load:
    """Post `body` to `url` over so many connections for so long, from one thread on one core."""
    argv = ["taskset", "--cpu-list", str(core), wrk, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
    argv += ["--timeout", f"{ANSWER_TIMEOUT_S}s", "-s", str(SCRIPT), url]
    try:
        done = subprocess.run(
            argv,
            env={**env, "BENCH_BODY": body, "BENCH_KEY": key},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds + ANSWER_TIMEOUT_S + 10,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(f"wrk did not end within {error.timeout:.0f} s") from error
    if done.returncode != 0:
        raise LoadFailed(f"wrk ended with status {done.returncode}: {done.stderr.strip()}")
    return parse(done.stdout)
