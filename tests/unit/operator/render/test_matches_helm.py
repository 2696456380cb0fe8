"""The renderer gives what `helm template` gives: its own way of running templates changes nothing."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from tenantry_operator.render.helper import Helper

CHART = Path(__file__).resolve().parents[4] / "charts" / "tenant"
BASE: dict[str, object] = {
    "tenant": {"name": "acme"},
    "image": {"repository": "tenantry", "tag": "dev"},
    "policy": {"apiVersion": "policy.tenantry.dev/v1", "tenant": "acme", "models": {"aliases": {"a<b": "c&d"}}},
}
VARIANTS: dict[str, dict[str, object]] = {
    "least": {},
    "everything": {
        "namespace": {"create": True, "name": "tenant-acme", "labels": {"team": "a"}},
        "labels": {"applyset.kubernetes.io/part-of": "applyset-x-v1", "number": "1"},
        "owners": [
            {"kind": "User", "name": "ann@example.com"},
            {"kind": "ServiceAccount", "name": "ci", "namespace": "build"},
        ],
        "keys": ["default", "batch"],
        "upstreamSecrets": ["openai", "azure"],
        "autoscaling": {"minReplicas": 2, "maxReplicas": 7, "targetInFlight": 50, "inFlightMetric": "in_flight"},
        "quota": {"pods": 40, "memory": "8Gi"},
        "placement": {"capacity": "Spot", "architectures": ["arm64", "amd64"]},
        "service": {"nodePort": 30080},
        "network": {"egress": {"ports": [443, 8443], "namespaces": ["sim", "ai"], "cidrs": ["10.1.0.0/16"]}},
        "route": {"kind": "Gateway", "hostnames": ["a.example.com"], "parentRef": {"name": "gw", "namespace": "edge"}},
        "pod": {"preStopSeconds": 0, "priorityClassName": "high", "terminationGracePeriodSeconds": 30},
    },
    "on demand": {"placement": {"capacity": "OnDemand", "architectures": ["arm64"]}},
    "nothing where something might be": {
        "service": {"nodePort": None},
        "policy": {
            "apiVersion": "policy.tenantry.dev/v1",
            "tenant": "acme",
            "budget": None,
            "limits": {"tokens": None},
        },
    },
    "an Ingress": {"route": {"kind": "Ingress", "hostnames": ["a.example.com"], "ingress": {"tlsSecretName": "tls"}}},
    "suspended": {"suspend": {"traffic": True}, "autoscaling": {"minReplicas": 1, "maxReplicas": 3}},
}


@pytest.mark.parametrize("variant", VARIANTS)
async def test_same_objects_as_helm_template(render_helper: Path, helm: Path, tmp_path: Path, variant: str) -> None:
    values = {**BASE, **VARIANTS[variant]}
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    expected = helm_template(helm, file)
    helper = Helper([str(render_helper), str(CHART)])
    try:
        _, rendered = await helper.render("acme", "tenant-acme", json.dumps(values).encode())
    finally:
        await helper.close()
    assert sorted(map(identity, json.loads(rendered))) == sorted(map(identity, expected))
    assert by_identity(json.loads(rendered)) == by_identity(expected)


def helm_template(helm: Path, values: Path) -> list[dict[str, object]]:
    argv: list[str | Path] = [helm, "template", "acme", CHART, "--namespace", "tenant-acme", "--kube-version", "1.35.0"]
    text = subprocess.run([*argv, "--values", values], capture_output=True, text=True, check=True).stdout
    # The one difference there is meant to be: who manages the objects.
    text = text.replace("app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: tenantry")
    return [document for document in yaml.safe_load_all(text) if document]


def identity(each: dict[str, object]) -> str:
    metadata = each["metadata"]
    assert isinstance(metadata, dict)
    return f"{each['kind']}/{metadata.get('namespace')}/{metadata['name']}"


def by_identity(objects: list[dict[str, object]]) -> dict[str, dict[str, object]]:
    return {identity(each): each for each in objects}
