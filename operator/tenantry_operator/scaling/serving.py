"""The leader's own HTTPS server, and how others find it and know it.

Two ask here: the API server, for metrics and before it evicts a pod, which it knows by the certificate authority that
we put into the APIService and the webhook's configuration; and the activator, which has that from a Secret. Both reach
it by the Service ``tenantry-leader``, whose one endpoint is whoever leads: it writes its own address there, so that
nobody asks a replica that only stands by.
"""

import asyncio
import base64
import hmac
import json
import logging
import ssl
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum, auto

from aiohttp import web
from msgspec import Struct

from tenantry_operator.kube import errors
from tenantry_operator.kube.client import Client, Nothing
from tenantry_operator.kube.resources import (
    API_SERVICES,
    CONFIG_MAPS,
    ENDPOINT_SLICES,
    SERVICE_ACCOUNTS,
    VALIDATING_WEBHOOKS,
)
from tenantry_operator.plan import names
from tenantry_operator.plan.observed import LiveMeta
from tenantry_operator.scaling import certificate
from tenantry_operator.scaling.certificate import Identity
from tenantry_operator.scaling.slices import endpoint_slice

log = logging.getLogger(__name__)

METRICS_API = "v1beta2.custom.metrics.k8s.io"
EVICTION_WEBHOOK = "tenantry-evictions"
#: Where the API server asks about evictions. It shows no certificate there; that it is the one is proven by the rest of
#: the path, which is a secret that only it and whoever may read webhook configurations know.
EVICTIONS_PATH, PROOF = "/evictions", "proof"
#: Seconds between two looks at the front proxy's authority, which may be replaced.
REREAD = 600.0
#: Until the next attempt after a failure.
RETRY = 5.0
#: A request has no body, or the activator's list of tenants that it holds requests for.
LARGEST_BODY = 1 << 20


class Caller(Enum):
    """Who asks."""

    API_SERVER = auto()
    ACTIVATOR = auto()
    NOBODY = auto()


class FrontProxy(Struct, frozen=True):
    """How the API server proves to aggregated APIs that it is the one: a certificate of this authority and name."""

    authority: str
    #: Empty: any name.
    names: tuple[str, ...] = ()


_FRONT_PROXY: web.AppKey[FrontProxy] = web.AppKey("front_proxy", FrontProxy)
_IDENTITY: web.AppKey[Identity] = web.AppKey("identity", Identity)


class _ConfigMap(Struct, frozen=True):
    data: dict[str, str] = {}


class _Bundle(Struct, frozen=True, rename="camel"):
    ca_bundle: str = ""


class _ApiService(Struct, frozen=True):
    spec: _Bundle = _Bundle()


class _Service(Struct, frozen=True):
    path: str = ""


class _ClientConfig(Struct, frozen=True, rename="camel"):
    ca_bundle: str = ""
    service: _Service = _Service()


class _Webhook(Struct, frozen=True, rename="camel"):
    name: str
    client_config: _ClientConfig = _ClientConfig()


class _Webhooks(Struct, frozen=True):
    webhooks: tuple[_Webhook, ...] = ()


class _Account(Struct, frozen=True):
    metadata: LiveMeta


def caller(request: web.Request) -> Caller:
    """Who has sent this request, as far as it is proven."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme == "Bearer" and hmac.compare_digest(token.encode(), request.app[_IDENTITY].token.encode()):
        return Caller.ACTIVATOR
    shown_proof = request.match_info.get(PROOF)
    if shown_proof is not None:
        is_known = hmac.compare_digest(shown_proof.encode(), proof(request.app[_IDENTITY]).encode())
        return Caller.API_SERVER if is_known else Caller.NOBODY
    # Whoever shows a certificate has it from the front proxy's authority: the handshake fails with any other.
    shown = None if request.transport is None else request.transport.get_extra_info("peercert")
    if not isinstance(shown, Mapping):
        return Caller.NOBODY
    subject = [value for part in shown.get("subject", ()) for key, value in part if key == "commonName"]
    allowed = request.app[_FRONT_PROXY].names
    return Caller.API_SERVER if subject and (not allowed or subject[0] in allowed) else Caller.NOBODY


def proof(identity: Identity) -> str:
    """The last part of the path that the API server asks about evictions at."""
    return hmac.new(identity.token.encode(), EVICTIONS_PATH.encode(), "sha256").hexdigest()


async def front_proxy(client: Client) -> FrontProxy:
    """What the API server tells of itself. Raises KubeError.

    https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/#extension-apiserver-authenticates-the-request
    """
    found = await client.get(
        CONFIG_MAPS, "extension-apiserver-authentication", namespace="kube-system", into=_ConfigMap
    )
    allowed = json.loads(found.data.get("requestheader-allowed-names") or "[]")
    return FrontProxy(found.data.get("requestheader-client-ca-file", ""), tuple(map(str, allowed)))


def tls(identity: Identity, proxy: FrontProxy) -> ssl.SSLContext:
    """The server's side of the handshake. Raises ssl.SSLError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The ssl module reads a certificate from files only; they exist for the length of this call, mode 0600.
    with tempfile.NamedTemporaryFile() as pem:
        pem.write((identity.certificate + identity.key).encode())
        pem.flush()
        context.load_cert_chain(pem.name)
    if proxy.authority:
        context.load_verify_locations(cadata=proxy.authority)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


class Serving:
    """The server, from the moment that this process leads. ``routes`` puts handlers into the application."""

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        account: str,
        address: str,
        listen: str,
        port: int,
        routes: Callable[[web.Application], None],
    ) -> None:
        self._client, self._namespace, self._account = client, namespace, account
        self._address, self._listen, self._port, self._routes = address, listen, port, routes

    async def run(self) -> None:
        """Serve until cancelled; what goes wrong is tried again."""
        while True:
            try:
                await self._serve()
            except (errors.KubeError, OSError, ValueError) as error:
                log.warning("metrics and wake-ups are not served: %s", error)
            await asyncio.sleep(RETRY)

    async def _serve(self) -> None:
        host = f"{names.LEADER_SERVICE}.{self._namespace}.svc"
        hosts = [host, f"{host}.cluster.local"]
        identity = await certificate.ensure(self._client, self._namespace, hosts, datetime.now(UTC))
        if identity is None:
            log.info("no Secret %s in %s: metrics and wake-ups are not served", names.INTERNAL_SECRET, self._namespace)
            await asyncio.sleep(REREAD)
            return
        proxy = await front_proxy(self._client)
        app = web.Application(client_max_size=LARGEST_BODY)
        app[_IDENTITY], app[_FRONT_PROXY] = identity, proxy
        self._routes(app)
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._listen, self._port, ssl_context=tls(identity, proxy)).start()
            await self._announce(identity, runner.addresses[0][1])
            log.info("serving metrics and wake-ups", extra={"port": runner.addresses[0][1]})
            await self._until_replaced(proxy)
        finally:
            await runner.cleanup()

    async def _until_replaced(self, proxy: FrontProxy) -> None:
        while True:
            await asyncio.sleep(REREAD)
            if await front_proxy(self._client) != proxy:
                return

    async def _announce(self, identity: Identity, port: int) -> None:
        """Where we are, and what proves it. Writes only what is not so already."""
        owner = await self._client.find(SERVICE_ACCOUNTS, self._account, namespace=self._namespace, into=_Account)
        where = endpoint_slice(
            names.LEADER_SERVICE,
            names.LEADER_SERVICE,
            self._namespace,
            [self._address],
            port_name="https",
            port=port,
            owner=(SERVICE_ACCOUNTS.kind, self._account, owner.metadata.uid) if owner is not None else None,
        )
        await self._client.apply(ENDPOINT_SLICES, names.LEADER_SERVICE, where, namespace=self._namespace, into=Nothing)
        bundle = base64.b64encode(identity.certificate.encode()).decode()
        found = await self._client.find(API_SERVICES, METRICS_API, into=_ApiService)
        if found is not None and found.spec.ca_bundle != bundle:
            await self._client.merge_patch(API_SERVICES, METRICS_API, {"spec": {"caBundle": bundle}}, into=Nothing)
        await self._answer_for_evictions(bundle, f"{EVICTIONS_PATH}/{proof(identity)}")

    async def _answer_for_evictions(self, bundle: str, path: str) -> None:
        """Put into the webhook's configuration, if there is one, what leads the API server here."""
        found = await self._client.find(VALIDATING_WEBHOOKS, EVICTION_WEBHOOK, into=_Webhooks)
        for number, each in enumerate(found.webhooks if found is not None else ()):
            if (each.client_config.ca_bundle, each.client_config.service.path) == (bundle, path):
                continue
            at = f"/webhooks/{number}"
            change = [
                {"op": "test", "path": f"{at}/name", "value": each.name},
                {"op": "add", "path": f"{at}/clientConfig/caBundle", "value": bundle},
                {"op": "add", "path": f"{at}/clientConfig/service/path", "value": path},
            ]
            await self._client.json_patch(VALIDATING_WEBHOOKS, EVICTION_WEBHOOK, change, into=Nothing)
