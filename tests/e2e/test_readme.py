"""Every command in the README works as it stands there, in its order, on state of its own."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from localcluster import tools
from localcluster.paths import Checkout

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    for line in block.replace("\\\n", "").splitlines()
    if line and not line.startswith("#")
]

#: Seconds for `make demo` with everything built but nothing running, on a busy two-core machine.
DEMO_TIMEOUT = 900
#: Seconds for each of the other commands.
PATIENCE = 300


class Reader:
    """Somebody who types what the README says."""

    def __init__(self, place: Path) -> None:
        kubectl = tools.kubectl(Checkout.here())
        self.env = {
            **os.environ,
            "TENANTRY_STATE_DIR": str(place / "state"),
            "KUBECONFIG": str(place / "state" / "demo" / "kubeconfig"),
            "XDG_STATE_HOME": str(place / "xdg"),
            "PATH": f"{kubectl.parent}:{os.environ['PATH']}",
        }
        self.env.pop("OPENAI_API_KEY", None)

    def types(self, command: str, timeout: float = PATIENCE) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def starts_and_stops(self, command: str, until: str) -> str:
        """What a command that serves prints, until a line holds ``until``; then it is asked to end, and does well."""
        with subprocess.Popen(
            command.split(), cwd=ROOT, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            said = ""
            deadline = time.monotonic() + PATIENCE
            while until not in said and time.monotonic() < deadline:
                line = process.stdout.readline()
                if not line:
                    break
                said += line
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0, said
        assert until in said
        return said


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    place = tmp_path_factory.mktemp("reader")
    reader = Reader(place)
    yield reader
    reader.types("make demo-down")
    assert not (place / "state" / "demo").exists()


@pytest.mark.timeout(DEMO_TIMEOUT + 2 * PATIENCE)
def test_the_readmes_commands_work_in_their_order(reader: Reader) -> None:
    answers: dict[str, str] = {}
    for command in COMMANDS:
        if command == "make test":
            # What runs this very test: that it runs all of them is all that is left to see.
            assert re.search(r"-m pytest\s*$", reader.types("make --dry-run test"), re.MULTILINE)
        elif command.startswith(".venv/bin/tenantry serve"):
            answers[command] = reader.starts_and_stops(command, until="curl")
        else:
            answers[command] = reader.types(command, timeout=DEMO_TIMEOUT if command == "make demo" else PATIENCE)
    assert "Tenant applied -> first answer" in answers["make demo"]
    assert re.search(r"^acme +standard +True ", answers["kubectl get tenants"], re.MULTILINE)
    assert any(text.startswith("tn_") for command, text in answers.items() if "get secret" in command)
    assert "deleted" in answers["kubectl delete tenant acme"]
