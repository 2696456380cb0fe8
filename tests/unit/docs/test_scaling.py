"""The guide's ScaledObject is one that KEDA takes, and scales as the platform's own HPA."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from tenantry_operator.plan.desired import IN_FLIGHT_METRIC

from tests.unit.charts.conftest import RenderTenant, tenant
from tests.unit.charts.objects import at, find

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = json.loads(Path(__file__).with_name("scaledobject.json").read_text())

__all__ = ["tenant"]  # a fixture


def scaled_object() -> dict[str, Any]:
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "scaling.md").read_text(), re.MULTILINE | re.DOTALL)
    (found,) = [each for each in map(yaml.safe_load, blocks) if each.get("kind") == "ScaledObject"]
    assert found["apiVersion"] == "keda.sh/v1alpha1"
    return dict(found["spec"])


def test_keda_takes_it() -> None:
    spec = scaled_object()
    jsonschema.validate(spec, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**spec, "maxReplicas": 20}, SCHEMA)


async def test_it_scales_the_tenants_deployment_as_the_platforms_hpa_does(tenant: RenderTenant) -> None:
    spec = scaled_object()
    hpa = at(find(await tenant(autoscaling={"maxReplicas": 20, "inFlightMetric": IN_FLIGHT_METRIC}), HPA), "spec")
    assert spec["scaleTargetRef"]["name"] == hpa["scaleTargetRef"]["name"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (hpa["minReplicas"], hpa["maxReplicas"])
    assert spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == hpa["behavior"]
    (trigger,), (metric,) = spec["triggers"], hpa["metrics"]
    assert metric["pods"]["metric"]["name"] in trigger["metadata"]["query"]
    assert trigger["metadata"]["threshold"] == metric["pods"]["target"]["averageValue"]


HPA = "HorizontalPodAutoscaler"
