"""``custom.metrics.k8s.io/v1beta2``, as an aggregated API: requests in flight of each pod, for HPAs.

Shape: https://github.com/kubernetes/metrics/tree/master/pkg/apis/custom_metrics/v1beta2 and, for who asks what,
https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#support-for-metrics-apis.

Who may ask: the API server only. It shows the certificate of the front proxy, which nobody else has, and it has by then
authenticated the real caller and checked that RBAC lets him read the path; so nothing is left to be asked of it again.
https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/
"""

import time
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from tenantry_operator import metrics
from tenantry_operator.api.meta import NAMESPACE_PREFIX
from tenantry_operator.plan import names
from tenantry_operator.plan.desired import IN_FLIGHT_METRIC as IN_FLIGHT
from tenantry_operator.pods import Pod, Pods
from tenantry_operator.scaling.readings import Reading, Readings
from tenantry_operator.scaling.selector import parse
from tenantry_operator.scaling.serving import Caller, caller

GROUP = "custom.metrics.k8s.io"
VERSION = "v1beta2"

ROOT = f"/apis/{GROUP}/{VERSION}"
_PREFERRED = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}


def group() -> dict[str, object]:
    """The group's part of discovery."""
    return {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": GROUP,
        "versions": [_PREFERRED],
        "preferredVersion": _PREFERRED,
    }


def resources() -> dict[str, object]:
    """What the group serves."""
    metric = {
        "name": f"pods/{IN_FLIGHT}",
        "singularName": "",
        "namespaced": True,
        "kind": "MetricValueList",
        "verbs": ["get"],
    }
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}", "resources": [metric]}


def values(found: Sequence[tuple[Pod, Reading]]) -> dict[str, object]:
    """The value for each of the pods."""
    return {
        "kind": "MetricValueList",
        "apiVersion": f"{GROUP}/{VERSION}",
        "metadata": {},
        "items": [
            {
                "describedObject": {"kind": "Pod", "namespace": pod.namespace, "name": pod.name, "apiVersion": "/v1"},
                "metric": {"name": IN_FLIGHT, "selector": None},
                "timestamp": reading.time.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "windowSeconds": 0,
                "value": str(reading.load.requests),
            }
            for pod, reading in found
        ],
    }


def refusal(code: int, reason: str, message: str) -> web.Response:
    """A ``Status``, as the API server's own refusals are."""
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return web.json_response({**status, "message": message, "reason": reason, "code": code}, status=code)


class MetricsApi:
    """The handlers. What is told is what the pods said within the last ``readings.FRESH`` seconds.

    ``freshen``: asks a tenant's pods for what they have not said a moment ago.
    """

    def __init__(
        self,
        pods: Pods,
        readings: Readings,
        freshen: Callable[[str], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pods, self._readings, self._freshen, self._clock = pods, readings, freshen, clock

    def add_to(self, app: web.Application) -> None:
        """Put the routes into an application."""
        app.router.add_get(f"/apis/{GROUP}", self._discovery)
        app.router.add_get(ROOT, self._resources)
        app.router.add_get(ROOT + "/namespaces/{namespace}/pods/{name}/{metric}", self._values)

    async def _discovery(self, request: web.Request) -> web.Response:
        return _refused(request) or web.json_response(group())

    async def _resources(self, request: web.Request) -> web.Response:
        return _refused(request) or web.json_response(resources())

    async def _values(self, request: web.Request) -> web.Response:
        refused = _refused(request)
        if refused is not None:
            return refused
        namespace, name, metric = (request.match_info[part] for part in ("namespace", "name", "metric"))
        if metric != IN_FLIGHT:
            return refusal(404, "NotFound", f"pods have no metric {metric!r} here, only {IN_FLIGHT}")
        try:
            selects = parse(request.query.get("labelSelector", ""))
        except ValueError as error:
            return refusal(400, "BadRequest", str(error))
        tenant = _tenant(namespace)
        await self._freshen(tenant)
        now = self._clock()
        pods = [pod for pod in self._pods.of(tenant) if name in ("*", pod.name) and selects(_labels(pod))]
        found = [(pod, reading) for pod in pods if (reading := self._readings.fresh(pod.uid, now)) is not None]
        if name != "*" and not found:
            return refusal(404, "NotFound", f"{IN_FLIGHT} of pod {name} in {namespace} is not known")
        for _, reading in found:
            metrics.METRIC_AGE_SECONDS.observe(now - reading.at)
        return web.json_response(values(found))


def _tenant(namespace: str) -> str:
    return namespace.removeprefix(NAMESPACE_PREFIX) if namespace.startswith(NAMESPACE_PREFIX) else ""


def _labels(pod: Pod) -> dict[str, str]:
    # Those that selectors of ours are made of. A pod of a tenant has no others that matter.
    said = {names.TENANT_LABEL: pod.tenant, names.POOL_LABEL: pod.pool, names.SERVE_LABEL: pod.serve}
    return {"app.kubernetes.io/name": "tenantry-api", **{key: value for key, value in said.items() if value}}


def _refused(request: web.Request) -> web.Response | None:
    if caller(request) is Caller.API_SERVER:
        return None
    return refusal(401, "Unauthorized", "ask the API server for this path; it alone is answered here")
