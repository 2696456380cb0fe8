"""`make demo`: from nothing to a tenant's first answer, and what to try next.

Everything may be run again: what is there already is used as it is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from localcluster import release
from localcluster.conversation import Answer, Conversation
from localcluster.images import POSTGRES, REDIS, SIMULATOR, TENANTRY
from localcluster.paths import Checkout
from localcluster.stand import Stand
from localcluster.steps import Progress, Step, StepLog, run_steps

CLUSTER = "demo"
TENANT = "acme"

#: Whom the demo asks for: the simulator takes any name, and OpenAI serves this one.
MODEL = "gpt-4o-mini"

#: Values of the platform's chart with which its tiers are served by OpenAI.
OPENAI = {
    "tiers.upstreams[0].name": "openai",
    "tiers.upstreams[0].baseURL": "https://api.openai.com/v1",
    "tiers.upstreams[0].credentialsSecret": "openai",
}

#: With which the platform counts in a Redis and keeps its ledger in a PostgreSQL, both made for development.
DATASTORES = {"dev.datastores.enabled": "true"}

#: Seconds for a Tenant to become ready; it takes a few.
READY_TIMEOUT = 120


class Demo:
    """The demo's steps, and the answer that comes of them."""

    def __init__(self, checkout: Checkout, openai_key: str | None) -> None:
        self._checkout = checkout
        self._openai_key = openai_key
        wanted = (TENANTRY, REDIS, POSTGRES) if openai_key else (TENANTRY, SIMULATOR, REDIS, POSTGRES)
        self.stand = Stand(checkout, CLUSTER, wanted, {**DATASTORES, **(OPENAI if openai_key else {})})
        self.answer: Answer | None = None

    def steps(self) -> list[Step]:
        """Return all steps; the last one is the Tenant's."""
        steps = self.stand.steps()
        upstream = "upstream simulator"
        if self._openai_key:
            upstream = "upstream credentials"
            steps.append(Step(upstream, self._store_key, ("platform",)))
        return [*steps, Step(f"tenant {TENANT}", self._tenant, ("gateway", upstream))]

    def _store_key(self, log: StepLog) -> None:
        assert self._openai_key is not None
        release.store_credentials(self.stand.target, "openai", self._openai_key, log)

    def _tenant(self, log: StepLog) -> None:
        target = self.stand.target
        manifest = tenant_manifest(self._checkout.root, bool(self._openai_key))
        with Conversation(self._checkout, log) as conversation:
            began = time.monotonic()
            release.apply_tenant(target, TENANT, manifest, READY_TIMEOUT, log)
            endpoint, key = release.access(target, TENANT, log)
            self.answer = conversation.hold(endpoint, key, MODEL, began)
        log.note(f"first answer {self.answer.seconds:.1f} s after the Tenant was applied")


def tenant_manifest(root: Path, openai: bool) -> str:
    """Return the demo's Tenant."""
    return (root / "kind" / "demo" / ("tenant-openai.yaml" if openai else "tenant.yaml")).read_text()


def farewell(answer: Answer, kubeconfig: Path, kubectl: Path, elapsed: float, *, own_kubectl: bool) -> str:
    """Return what the demo ends with: the answer, the figures, and the next three commands."""
    program = str(kubectl) if own_kubectl else "kubectl"
    show_key = (
        f"{program} get secret {release.DEFAULT_KEY_SECRET} --namespace tenant-{TENANT} "
        "--output 'go-template={{index .data \"api-key\" | base64decode}}'"
    )
    body = f'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    return "\n".join(
        [
            "",
            f"{answer.endpoint} answered ({answer.model}):",
            f"  {answer.text}",
            f"and streamed the same in {answer.pieces} pieces:",
            f"  {'|'.join(answer.streamed)}",
            "",
            f"Tenant applied -> first answer: {answer.seconds:.1f} s",
            f"make demo:                      {elapsed:.1f} s",
            "",
            "Next:",
            f"  export KUBECONFIG={kubeconfig}; {program} get tenants",
            f'  curl {answer.endpoint}/chat/completions --header "Authorization: Bearer $({show_key})" \\',
            f"    --header 'Content-Type: application/json' --data '{body}'",
            "  make demo-down",
        ]
    )


def main(argv: Sequence[str]) -> int:
    """`localcluster demo`: bring everything up, get the answer, print the figures."""
    argparse.ArgumentParser(prog="localcluster demo", description=__doc__).parse_args(argv)
    began = time.monotonic()
    checkout = Checkout.here()
    # Out of the environment, so that no program that we start inherits it.
    openai_key = os.environ.pop("OPENAI_API_KEY", "").strip() or None
    demo = Demo(checkout, openai_key)
    run_steps(demo.steps(), checkout.log_dir, Progress())
    assert demo.answer is not None
    kubectl = release.kubectl_program(checkout)
    own_kubectl = shutil.which("kubectl") is None
    elapsed = time.monotonic() - began
    print(farewell(demo.answer, demo.stand.target.kubeconfig, kubectl, elapsed, own_kubectl=own_kubectl))
    return 0
