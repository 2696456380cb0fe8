"""Reading rendered objects: one by kind and name, and values by path."""

from collections.abc import Iterable, Mapping
from typing import Any

Object = Mapping[str, object]


def find(objects: Iterable[Object], kind: str, name: str | None = None) -> Object:
    """The one object of that kind (and name)."""
    (found,) = [each for each in objects if each["kind"] == kind and name in (None, at(each, "metadata.name"))]
    return found


def kinds(objects: Iterable[Object]) -> set[str]:
    return {str(each["kind"]) for each in objects}


def at(value: object, path: str) -> Any:
    """What is at ``a.b.0.c``; None where the path ends early."""
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def pod_specs(objects: Iterable[Object]) -> list[tuple[str, Mapping[str, Any]]]:
    """The pod specs of all workloads, by the workload's name."""
    workloads = ("Deployment", "StatefulSet", "DaemonSet", "Job")
    return [
        (str(at(each, "metadata.name")), at(each, "spec.template.spec"))
        for each in objects
        if each["kind"] in workloads
    ]


def violations_of_restricted(spec: Mapping[str, Any]) -> list[str]:
    """What Pod Security "restricted" would refuse, and a writable root file system.

    https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    """
    found = [f"{field} is set" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    if not at(spec, "securityContext.runAsNonRoot"):
        found.append("may run as root")
    if at(spec, "securityContext.seccompProfile.type") != "RuntimeDefault":
        found.append("seccomp profile is not RuntimeDefault")
    allowed = {"configMap", "secret", "projected", "emptyDir", "downwardAPI", "persistentVolumeClaim"}
    found += [
        f"volume {volume['name']}" for volume in spec.get("volumes", []) if not (volume.keys() - {"name"}) <= allowed
    ]
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        security = container.get("securityContext", {})
        if security.get("allowPrivilegeEscalation") is not False:
            found.append("privileges may be escalated")
        if at(security, "capabilities.drop") != ["ALL"]:
            found.append("capabilities are kept")
        if security.get("readOnlyRootFilesystem") is not True:
            found.append("root file system is writable")
    return found
