"""The service as an arm64 node runs it: a real aarch64 CPython with the locked aarch64 wheels, under qemu's emulation.

What is compiled into the images is compiled for one architecture each (tests of tests/component/test_compiled.py, and
`make images PLATFORM=linux/arm64`); here the same code runs as Python.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from localcluster import emulation
from localcluster.emulation import Emulated
from localcluster.machine import look
from localcluster.paths import Checkout
from localcluster.steps import StepLog
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from tests.component.service.harness import (
    CREDENTIAL,
    ROOT,
    Program,
    ledger_rows,
    program,
    simulator_program,
)
from tests.ports import free_port

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello there"}]
SOURCES = ("service", "cli")


@pytest.fixture(scope="module")
def aarch64() -> Emulated:
    checkout = Checkout.here()
    return emulation.ensure(checkout, look(), StepLog(checkout.log_dir / "aarch64.log"))


def environment(aarch64: Emulated) -> dict[str, str]:
    """Nothing of this machine's Python is on the emulated one's way."""
    places = [*(str(ROOT / place) for place in SOURCES), str(aarch64.packages)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LD_"))}
    return {**inherited, "PYTHONPATH": ":".join(places), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1"}


@pytest.fixture
def service(aarch64: Emulated, tmp_path: Path) -> Iterator[tuple[Program, Path]]:
    state, port = tmp_path / "state", free_port()
    with simulator_program(tmp_path, "--expect-key-env", "EXPECTED", env={"EXPECTED": CREDENTIAL}) as simulator:
        flags = (
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--upstream",
            simulator.base_url,
            "--state-dir",
            str(state),
        )
        argv = aarch64.command("-m", "tenantry", "serve", *flags)
        environs = {**environment(aarch64), "OPENAI_API_KEY": CREDENTIAL}
        with program(tmp_path, "aarch64-service", argv, port, environs, patience=900) as running:
            yield running, state


@pytest.mark.timeout(900)
def test_interpreter_and_extension_modules_are_of_the_other_architecture(aarch64: Emulated) -> None:
    script = (
        "import json, platform, httptools.parser.parser as p, uvloop.loop as u, msgspec._core as m;"
        "print(json.dumps([platform.machine(), p.__file__, u.__file__, m.__file__]))"
    )
    done = subprocess.run(
        aarch64.command("-c", script), env=environment(aarch64), capture_output=True, text=True, check=True, timeout=840
    )
    machine, *modules = json.loads(done.stdout)
    assert machine == "aarch64"
    for module in modules:
        assert "aarch64" in Path(module).name
        assert Path(module).read_bytes()[18:20] == b"\xb7\x00", "EM_AARCH64 in the ELF header"


@pytest.mark.timeout(900)
def test_a_stream_is_served_and_billed(service: tuple[Program, Path]) -> None:
    running, state = service
    key = (state / "key").read_text().strip()
    with OpenAI(base_url=running.base_url, api_key=key, max_retries=0, timeout=240) as sdk:
        whole = sdk.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
        stream = sdk.chat.completions.create(
            model="gpt-4o-mini", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    executable = Path(f"/proc/{running.process.pid}/exe").resolve().name
    assert executable == emulation.QEMU
    running.process.send_signal(signal.SIGINT)
    running.process.communicate(timeout=240)
    assert running.process.returncode == 0
    assert len(ledger_rows(state / "ledger.sqlite")) == 2
