"""The Redis that the platform chart runs (`redis.create`), by its own configuration."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from localcluster import tools
from localcluster.datastores import Redis
from tenantry_operator.redis.connection import Connection

CHART = Path(__file__).resolve().parents[3] / "charts" / "tenantry"


class OfTheChart(Redis):
    """What the chart's pod would run, at a port and in a directory of this machine."""

    def _prepare(self) -> None:
        argv = [
            str(tools.helm()),
            "template",
            "x",
            str(CHART),
            "--kube-version",
            "1.35.0",
            "--set",
            "redis.create=true",
        ]
        argv += ["--show-only", "templates/redis.yaml"]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        (secret,) = [each for each in yaml.safe_load_all(done.stdout) if each["kind"] == "Secret"]
        self.password = secret["stringData"]["redis-password"]
        settings = secret["stringData"]["redis.conf"].replace("dir /data", f"dir {self.directory}")
        (self.directory / "redis.conf").write_text(f"{settings}\nbind 127.0.0.1\nport {self.port}\n")


@pytest.fixture
def server() -> Iterator[OfTheChart]:
    with OfTheChart() as running:
        yield running


async def test_it_is_what_the_guide_asks_for_and_keeps_what_it_was_told(server: OfTheChart, tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(server.url)
    admin = Connection(file)
    for name, wanted in (("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction")):
        assert await admin.ask(("CONFIG", "GET", name)) == [[name, wanted]]
    await admin.ask(("SET", "tn:{acme}:x", "1"))
    await admin.close()
    server.kill()
    server.start()
    assert await admin.ask(("GET", "tn:{acme}:x")) == ["1"]
    await admin.close()
