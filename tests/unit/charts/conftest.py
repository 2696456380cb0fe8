"""Rendering both charts for the tests below."""

import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import yaml
from tenantry_operator.render.helper import Helper

CHARTS = Path(__file__).resolve().parents[3] / "charts"
KUBERNETES = "1.35.0"

Object = dict[str, object]
RenderTenant = Callable[..., Awaitable[list[Object]]]
RenderPlatform = Callable[..., list[Object]]


@pytest.fixture
async def tenant(render_helper: Path) -> AsyncIterator[RenderTenant]:
    """``await tenant(autoscaling={...})``: the objects of a tenant with these values beside the least ones."""
    helper = Helper([str(render_helper), str(CHARTS / "tenant")])

    async def render(**values: object) -> list[Object]:
        base = {
            "tenant": {"name": "acme"},
            "image": {"repository": "tenantry", "tag": "dev"},
            "policy": {"apiVersion": "policy.tenantry.dev/v1", "tenant": "acme"},
        }
        _, objects = await helper.render("acme", "tenant-acme", json.dumps({**base, **values}).encode())
        rendered: list[Object] = json.loads(objects)
        return rendered

    yield render
    await helper.close()


@pytest.fixture
def platform(helm: Path) -> RenderPlatform:
    """``platform("operator.replicas=2")``: the objects of the platform chart with these settings (and values)."""

    def render(*settings: str, values: Path | None = None) -> list[Object]:
        argv = [str(helm), "template", "tenantry", str(CHARTS / "tenantry"), "--namespace", "tenantry-system"]
        argv += ["--kube-version", KUBERNETES, *(part for setting in settings for part in ("--set", setting))]
        argv += [] if values is None else ["--values", str(values)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(done.stderr)
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    return render
