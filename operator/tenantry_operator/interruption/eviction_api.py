"""The webhook that the API server asks before it evicts a tenant's pod."""

from datetime import UTC, datetime

import msgspec
from aiohttp import web

from tenantry_operator import metrics
from tenantry_operator.api.meta import NAMESPACE_PREFIX
from tenantry_operator.interruption.evictions import Evictions, answer, asked
from tenantry_operator.pods import Pod, Pods
from tenantry_operator.scaling.serving import EVICTIONS_PATH, PROOF, Caller, caller


class EvictionApi:
    """Answers by what is known of pods."""

    def __init__(self, evictions: Evictions, pods: Pods) -> None:
        self._evictions, self._pods = evictions, pods

    def add_to(self, app: web.Application) -> None:
        """Put the handler into a server."""
        app.router.add_post(f"{EVICTIONS_PATH}/{{{PROOF}}}", self._review)

    async def _review(self, request: web.Request) -> web.Response:
        if caller(request) is not Caller.API_SERVER:
            return web.Response(status=401, text="for the API server only\n")
        try:
            question = asked(await request.read())
        except msgspec.DecodeError as error:
            return web.Response(status=400, text=f"no AdmissionReview: {error}\n")
        pod = self._pod(question.namespace, question.pod)
        later = self._evictions.judge(pod, datetime.now(UTC), only_asked=question.only_asked)
        metrics.EVICTIONS.labels("allowed" if later is None else "later").inc()
        return web.json_response(answer(question.uid, later))

    def _pod(self, namespace: str, name: str) -> Pod | None:
        mine = self._pods.of(namespace.removeprefix(NAMESPACE_PREFIX))
        return next((pod for pod in mine if pod.name == name and pod.namespace == namespace), None)
