"""The API server, one request after the other over one connection: a command makes a handful, then ends.

The kubeconfig is read as the operator reads it. Its asyncio client is not used: importing that takes longer than
most commands do.
"""

import asyncio
import http.client
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec
from tenantry_operator.kube import errors
from tenantry_operator.kube.config import Access

T = TypeVar("T")

#: Whom the API server notes as the author of what the plugin changes.
FIELD_MANAGER = "kubectl-tenant"

#: Seconds for one answer.
TIMEOUT = 30.0

#: The API server's own table of objects, the one that `kubectl get` prints.
#: https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"

MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class Api:
    """A connection to the API server. Every method raises KubeError when it does not do what was asked."""

    def __init__(self, access: Access, *, timeout: float = TIMEOUT) -> None:
        self._access, self._timeout = access, timeout
        self._connection: http.client.HTTPConnection | None = None
        self._prefix = urlsplit(access.server).path.rstrip("/")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()

    def get(self, path: str, into: type[T], *, accept: str = "application/json", **query: str) -> T:
        """What is at the path."""
        return self._decoded(self.call("GET", path, accept=accept, query=query), into, path)

    def find(self, path: str, into: type[T], **query: str) -> T | None:
        """What is at the path; None when nothing is."""
        try:
            return self.get(path, into, **query)
        except errors.NotFound:
            return None

    def patch(self, path: str, body: object, into: type[T], *, content: str = MERGE_PATCH, **query: str) -> T:
        """Change what is at the path."""
        query = {"fieldManager": FIELD_MANAGER, **query}
        return self._decoded(self.call("PATCH", path, body=body, content=content, query=query), into, path)

    def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content: str = "",
        accept: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> bytes:
        """One request; the body of its answer. A token that is refused is fetched anew, once."""
        target = f"{self._prefix}{path}?{urlencode(query)}" if query else f"{self._prefix}{path}"
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Accept": accept, "User-Agent": FIELD_MANAGER, **({"Content-Type": content} if content else {})}
        code, answer, retry_after = self._exchange(method, target, data, headers)
        if code == 401:
            self._access.tokens.invalidate()
            code, answer, retry_after = self._exchange(method, target, data, headers)
        if code >= 400:
            raise errors.from_response(code, answer, retry_after)
        return answer

    def _exchange(
        self, method: str, target: str, data: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes, str | None]:
        token = asyncio.run(self._access.tokens.token())
        identity = {"Authorization": f"Bearer {token}"} if token else {}
        connection = self._connection = self._connection or self._connect()
        try:
            connection.request(method, target, data, {**headers, **identity})
            response = connection.getresponse()
            return response.status, response.read(), response.headers.get("Retry-After")
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self._connection = None
            raise errors.Unreachable(
                f"no answer from {self._access.server}: {error or type(error).__name__}"
            ) from error

    def _connect(self) -> http.client.HTTPConnection:
        address = urlsplit(self._access.server)
        host = address.hostname or ""
        if address.scheme != "https":
            return http.client.HTTPConnection(host, address.port, timeout=self._timeout)
        tls = self._access.tls()
        context = tls if isinstance(tls, ssl.SSLContext) else None
        return http.client.HTTPSConnection(host, address.port, timeout=self._timeout, context=context)

    def _decoded(self, answer: bytes, into: type[T], path: str) -> T:
        try:
            return msgspec.json.decode(answer, type=into)
        except msgspec.DecodeError as error:
            raise errors.Unreadable(f"{path}: {error}") from error
