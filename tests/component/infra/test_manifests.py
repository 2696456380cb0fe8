"""Every manifest that goes to EKS, against the schemas of the Kubernetes versions that EKS has, and of Karpenter."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from localcluster import tools
from localcluster.cache import built_once, digest_of, files_below
from localcluster.paths import Checkout

from tests.component.infra.templates import INFRA, ROOT

#: Karpenter's definitions come with its Go module, at the version that infra/eks/nodepool.yaml was written for.
KARPENTER = "github.com/aws/karpenter-provider-aws@v1.14.0"
KARPENTER_SUM = "h1:QVQ947vQKzxM87aDbpZBtUnlVRVcU75c/RMlgVyX7nc="
#: Each chart as it is installed on EKS, and with everything on that there is to be switched on.
EVERYTHING = (
    "exposure.type=Gateway",
    "exposure.url=https://api.example.com/{tenant}/v1",
    "gateway.create=true",
    "gateway.envoy.create=true",
    "agent.enabled=true",
    "showback.enabled=true",
    "showback.volume.size=1Gi",
    "database.secret=database",
    "dev.datastores.enabled=true",
    "monitoring.dashboards.enabled=true",
    "monitoring.namespace=monitoring",
    "operator.interruptionQueueUrl=https://sqs.us-east-1.amazonaws.com/123456789012/tenantry-interruptions",
)
EKS = ["--values", "charts/tenantry/values-eks.yaml", "--set", "image.tag=v1"]
MONITORING = "monitoring.coreos.com/v1"
KINDS = ("ServiceMonitor", "PodMonitor", "PrometheusRule")
RENDERED = {
    "tenantry": EKS,
    "tenant": ["--values", "charts/tenant/ci/values.yaml"],
}
#: Kinds that a CRD defines, and what holds them against it.
ELSEWHERE = {
    "tenantry.dev/v1alpha1": "tests/cluster",
    "gateway.networking.k8s.io/v1": "tests/cluster",
    "gateway.envoyproxy.io/v1alpha1": "tests/e2e",
    MONITORING: "below",
}


def rendered(chart: str, *settings: str) -> str:
    argv: list[str | Path] = [
        tools.helm(),
        "template",
        "x",
        ROOT / "charts" / chart,
        "--namespace",
        "tenantry-system",
        *RENDERED[chart],
    ]
    done = subprocess.run([*argv, *settings], capture_output=True, text=True, check=True, cwd=ROOT)
    return str(done.stdout)


def everything(version: str) -> list[dict[str, Any]]:
    """All objects that the platform chart can make."""
    settings = [part for setting in EVERYTHING for part in ("--set", setting)]
    kinds = [part for kind in KINDS for part in ("--api-versions", f"{MONITORING}/{kind}")]
    text = rendered("tenantry", "--kube-version", version, *settings, *kinds)
    return [each for each in yaml.safe_load_all(text) if each]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", ["1.34", "1.35", "1.36"])
def test_the_charts_are_strictly_valid_for_each_version(cloud_python: Path, tmp_path: Path, version: str) -> None:
    manifests = tmp_path / "manifests.yaml"
    texts = [rendered("tenantry", "--kube-version", version), rendered("tenant", "--kube-version", version)]
    texts.append((INFRA / "eks" / "storageclass.yaml").read_text())
    objects = [each for text in texts for each in yaml.safe_load_all(text) if each] + everything(version)
    builtin = [each for each in objects if each["apiVersion"] not in ELSEWHERE]
    assert len(builtin) > 100
    names = {each["metadata"]["name"] for each in builtin}
    assert names >= {"tenantry-agent", "tenantry-ledger", "tenantry-redis", "tenantry-showback", "tenantry-activator"}
    manifests.write_text(yaml.safe_dump_all(builtin))
    argv: list[str | Path] = [
        cloud_python,
        "-m",
        "kubernetes_validate",
        "--kubernetes-version",
        version,
        "--strict",
        "--quiet",
    ]
    done = subprocess.run([*argv, manifests], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def prometheus_operator() -> Path:
    """A program that reads manifests into the Prometheus operator's own types."""
    module = Path(__file__).with_name("prometheusoperator")
    tools.require_go()

    def build(into: Path) -> None:
        env = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=readonly -buildvcs=false"}
        argv = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(into / "judge"), "."]
        subprocess.run(argv, cwd=module, env=env, check=True)

    digest = digest_of(files=files_below(module), root=module)
    place, _ = built_once(Checkout.here().cache, "prometheusoperator", digest, build)
    return place / "judge"


def read_as_monitoring(program: Path, objects: list[dict[str, Any]]) -> "subprocess.CompletedProcess[str]":
    text = "".join(json.dumps(each) for each in objects)
    return subprocess.run([program], input=text, capture_output=True, text=True, check=False, timeout=240)


@pytest.mark.timeout(900)
def test_monitoring_objects_are_strictly_the_prometheus_operators(prometheus_operator: Path) -> None:
    objects = [each for each in everything("1.35") if each["apiVersion"] == MONITORING]
    assert {each["kind"] for each in objects} == set(KINDS)
    done = read_as_monitoring(prometheus_operator, objects)
    assert (done.returncode, done.stdout.strip()) == (0, str(len(objects))), done.stderr
    wrong = {**objects[0], "spec": {**objects[0]["spec"], "endpoint": []}}
    assert 'unknown field "endpoint"' in read_as_monitoring(prometheus_operator, [wrong]).stderr


def test_a_wrong_field_would_be_seen(cloud_python: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "wrong.yaml"
    manifest.write_text(rendered("tenant", "--kube-version", "1.35").replace("selector:", "selektor:", 1))
    argv: list[str | Path] = [cloud_python, "-m", "kubernetes_validate", "--kubernetes-version", "1.35", "--strict"]
    assert subprocess.run([*argv, manifest], capture_output=True, check=False).returncode != 0


@pytest.fixture(scope="module")
def karpenter() -> Path:
    told = json.loads(
        subprocess.run(
            ["go", "mod", "download", "-json", KARPENTER], capture_output=True, text=True, check=True, cwd="/"
        ).stdout
    )
    assert told["Sum"] == KARPENTER_SUM
    return Path(told["Dir"]) / "pkg" / "apis" / "crds"


@pytest.mark.timeout(900)
def test_karpenters_objects_fit_karpenters_definitions(karpenter: Path) -> None:
    schemas = {}
    for path in karpenter.glob("*.yaml"):
        definition = yaml.safe_load(path.read_text())["spec"]
        for version in definition["versions"]:
            group = f"{definition['group']}/{version['name']}"
            schemas[group, definition["names"]["kind"]] = closed(version["schema"]["openAPIV3Schema"])
    objects = list(yaml.safe_load_all((INFRA / "eks" / "nodepool.yaml").read_text()))
    assert {each["kind"] for each in objects} == {"EC2NodeClass", "NodePool"}
    for each in objects:
        schema = schemas[each["apiVersion"], each["kind"]]
        jsonschema.validate(each, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**each, "spec": {**each["spec"], "unheardOf": 1}}, schema)


def test_the_eksctl_config_fits_eksctls_schema() -> None:
    schema = json.loads(Path(__file__).with_name("eksctl-excerpt.json").read_text())
    config = yaml.safe_load((INFRA / "eks" / "eksctl.yaml").read_text())
    jsonschema.validate(config, schema)
    (first, *_) = config["managedNodeGroups"]
    for wrong in ({**config, "addOns": []}, {**config, "managedNodeGroups": [{**first, "instanceTyps": []}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def closed(schema: Any) -> Any:
    """The schema, refusing fields that it does not name, as the API server does when asked to be strict."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema and "additionalProperties" not in schema:
        result["additionalProperties"] = False
    return result
