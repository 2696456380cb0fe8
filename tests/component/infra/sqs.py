"""A queue to read, or a whole stack's, in a process of its own."""

import json
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.component.infra.environments import AWS, python_with

#: What the stand-in lets in, as an AWS client finds it in its environment.
ACCESS = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "AWS_SESSION_TOKEN": "session/token+with=signs",
    "AWS_REGION": "us-east-1",
}


@contextmanager
def stand_in(given: str | Path) -> Iterator[str]:
    """The URL of a queue with these messages (a JSON list), or of the one that a template makes."""
    argv: list[str | Path] = [python_with("cloud"), "-m", "tests.component.infra.sqs_stand_in", given]
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=AWS, cwd=root) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            assert url.startswith("http"), "it did not start"
            yield url
        finally:
            process.kill()


def left(url: str) -> int:
    """Messages that are still there."""
    with urllib.request.urlopen(url, timeout=60) as response:
        count = json.load(response)
    assert isinstance(count, int)
    return count


def put_events(url: str, events: Sequence[Mapping[str, object]]) -> None:
    """Put events on the bus of the stack whose queue that is."""
    request = urllib.request.Request(url, json.dumps(events).encode(), method="PUT")
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.status == 200
