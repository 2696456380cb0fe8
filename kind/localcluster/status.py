"""What of this checkout runs, and where: the text of `status`."""

from __future__ import annotations

import json

from localcluster import engine
from localcluster.kindcluster import Cluster, find, known_names, nodes
from localcluster.paths import Checkout
from localcluster.steps import StepLog

#: Said wherever the facts of a cluster with our own node image are printed.
POLICY_NOTE = "NetworkPolicy objects are accepted but not enforced by this node image"


def text(checkout: Checkout) -> str:
    """Return the status of engine and clusters for people. Starts nothing."""
    docker = engine.current(checkout)
    lines = [f"state:   {checkout.state}", f"cache:   {checkout.cache}"]
    if docker is None:
        return "\n".join([*lines, "engine:  none answers", *_without_engine(checkout)])
    lines.append(
        f"engine:  {'our own, ' + docker.host if docker.own else docker.host or 'the one that docker reaches'}"
    )
    checkout.log_dir.mkdir(parents=True, exist_ok=True)
    log = StepLog(checkout.log_dir / "status.log")
    for name in known_names(checkout):
        known = find(checkout, name, docker)
        if known is not None:
            lines += describe(known, nodes(known, log), image(checkout, name))
    log.close()
    return "\n".join(lines)


def image(checkout: Checkout, name: str) -> str:
    """Return the node image that a cluster was made from."""
    return str(json.loads((checkout.cluster_dir(name) / "cluster.json").read_text())["nodeImage"])


def describe(known: Cluster, running: dict[str, bool], node_image: str) -> list[str]:
    """Return the lines about one cluster."""
    lines = [
        f"cluster: {known.name} ({known.kind_name})",
        f"  kubeconfig: {known.kubeconfig}",
        f"  host ports: {', '.join(map(str, known.node_ports))} on 127.0.0.1, each to the node port of that number",
        f"  node image: {node_image}",
        *[f"  node {node}: {'running' if up else 'stopped'}" for node, up in sorted(running.items())],
    ]
    if node_image.startswith("tenantry.dev/"):
        lines.append(f"  note: {POLICY_NOTE}")
    return lines


def _without_engine(checkout: Checkout) -> list[str]:
    return [f"cluster: {name} is down, for its engine is; `up` brings it back" for name in known_names(checkout)]
