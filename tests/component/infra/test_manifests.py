"""Every manifest that goes to EKS, against the schemas of the Kubernetes versions that EKS has, and of Karpenter."""

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from localcluster import tools

from tests.component.infra.templates import INFRA, ROOT

#: Karpenter's definitions come with its Go module, at the version that infra/eks/nodepool.yaml was written for.
KARPENTER = "github.com/aws/karpenter-provider-aws@v1.14.0"
KARPENTER_SUM = "h1:QVQ947vQKzxM87aDbpZBtUnlVRVcU75c/RMlgVyX7nc="
CHARTS = {
    "tenantry": ["--values", "charts/tenantry/values-eks.yaml", "--set", "image.tag=v1"],
    "tenant": ["--values", "charts/tenant/ci/values.yaml"],
}


def rendered(chart: str, *settings: str) -> str:
    argv: list[str | Path] = [
        tools.helm(),
        "template",
        "x",
        ROOT / "charts" / chart,
        "--namespace",
        "tenantry-system",
        *CHARTS[chart],
    ]
    done = subprocess.run([*argv, *settings], capture_output=True, text=True, check=True, cwd=ROOT)
    return str(done.stdout)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", ["1.34", "1.35", "1.36"])
def test_the_charts_are_strictly_valid_for_each_version(cloud_python: Path, tmp_path: Path, version: str) -> None:
    manifests = tmp_path / "manifests.yaml"
    texts = [rendered("tenantry", "--kube-version", version), rendered("tenant", "--kube-version", version)]
    # What CRDs define is held against them elsewhere (tests/cluster).
    objects = [each for text in texts for each in yaml.safe_load_all(text) if each]
    builtin = [
        each for each in objects if ".dev/" not in each["apiVersion"] and not each["apiVersion"].startswith("gateway.")
    ]
    manifests.write_text(yaml.safe_dump_all(builtin))
    assert len(builtin) > 20
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


@pytest.mark.timeout(300)
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
