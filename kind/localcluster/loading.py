"""Images from their archive into the nodes of a kind cluster, by the time that the cluster is ready.

The same as `kind load image-archive` without its copies: the archive is read once per node, straight into containerd.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from localcluster.config import WORKERS, worker_names
from localcluster.engine import Engine
from localcluster.images import Built
from localcluster.steps import StepLog

#: Seconds that nodes may take to run containerd; kind starts them first of all.
PATIENCE = 120


def node_names(kind_name: str, workers: int = WORKERS) -> list[str]:
    """Return what kind calls the containers of our nodes."""
    return [f"{kind_name}-control-plane", *worker_names(kind_name, workers)]


def load(built: Built, nodes: Sequence[str], docker: Engine, log: StepLog) -> None:
    """Bring the images into the containerd of every node that lacks one of them, all nodes side by side."""
    wanted = {whole_name(reference) for reference in built.references.values()}

    def into(node: str) -> bool:
        ctr = [*docker.docker, "exec", "--interactive", node, "ctr", "--namespace=k8s.io", "images"]
        if wanted <= set(log.output([*ctr, "ls", "--quiet"], env=docker.env).split()):
            return False
        importing = [*ctr, "import", "--all-platforms", "--digests", "--snapshotter=overlayfs", "-"]
        # exec: a signal meant for the program reaches it; the archive's name is not part of a shell text.
        log.run(["sh", "-c", 'exec "$@" < "$0"', built.archive, *importing], env=docker.env)
        return True

    with ThreadPoolExecutor(max_workers=len(nodes)) as pool:
        loaded = sum(pool.map(into, nodes))
    log.note(f"into {loaded} of {len(nodes)} nodes" if loaded else "all there")


def whole_name(reference: str) -> str:
    """Return what containerd calls an image: a name without a registry is one of Docker Hub's own."""
    registry, slash, _ = reference.partition("/")
    return reference if slash and "." in registry else f"docker.io/library/{reference}"


def load_ahead(built: Built, nodes: Sequence[str], docker: Engine, log: StepLog) -> None:
    """Do the same while kubeadm is still at work on the nodes, as soon as their containerd answers.

    Only a head start, which a node that is made anew loses: `load` has the last word once the cluster is there.
    """
    for _ in range(PATIENCE):
        if all(_answers(node, docker, log) for node in nodes):
            load(built, nodes, docker, log)
            return
        log.run(["sleep", "1"])  # a program, because that ends when another step fails
    log.note("no nodes yet")


def _answers(node: str, docker: Engine, log: StepLog) -> bool:
    return log.run([*docker.docker, "exec", node, "ctr", "version"], env=docker.env, check=False) == 0
