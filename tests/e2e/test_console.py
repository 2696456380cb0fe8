"""The status page through `kubectl port-forward` and `kubectl tenant`, as docs/console.md has them, on real nodes."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localcluster.release import kubectl_program

from tests.e2e.world import Access, World, until

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs/console.md").read_text()


def environment(world: World) -> dict[str, str]:
    """A terminal in which kubectl, its plugin and the cluster are found."""
    programs = [str(kubectl_program(world.target.checkout).parent), str(Path(sys.executable).parent)]
    path = os.pathsep.join([*programs, os.environ["PATH"]])
    return {**os.environ, "PATH": path, "KUBECONFIG": str(world.target.kubeconfig)}


@contextmanager
def forwarded(world: World) -> Iterator[str]:
    """The guide's `port-forward` to the page; where it leads to."""
    (block,) = re.findall(r"^```sh\n(leader=.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    argv = ["bash", "-euc", block]
    with subprocess.Popen(
        argv, env=environment(world), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            found = re.match(r"Forwarding from 127\.0\.0\.1:(\d+)", said)
            assert found, said
            yield f"http://localhost:{found[1]}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_the_status_page_shows_the_running_platform(world: World, acme: Access) -> None:
    with forwarded(world) as page:

        def read() -> str:
            with urllib.request.urlopen(page, timeout=60) as answer:
                return str(answer.read().decode())

        ready = r'<th scope="row">acme</th><td>\w+</td><td class="good">yes</td>'
        until(lambda: re.search(ready, read()) is not None, "acme is ready on the page")
        text = read()
    assert "Nodes at risk" in text
    assert "Last events" in text


def test_the_plugin_shows_the_same(world: World, acme: Access) -> None:
    def plugin(*arguments: str) -> str:
        argv = [str(kubectl_program(world.target.checkout)), "tenant", *arguments]
        done = subprocess.run(argv, env=environment(world), capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    began = time.monotonic()
    plugin("list")
    print(f"`kubectl tenant list` on kind: {time.monotonic() - began:.2f} s")
    # A pod that stood still for a moment is not ready for another one.
    ready = r"^acme +\w+ +True +Ready"
    until(lambda: re.search(ready, plugin("list"), re.MULTILINE) is not None, "acme is ready in the list")
    assert acme.endpoint in plugin("describe", "acme")
    assert plugin("key", "show", "acme").strip() == acme.key
