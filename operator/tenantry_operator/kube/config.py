"""How to reach the API server: from a kubeconfig file, or from inside a pod.

``Access`` holds the raw parts (Kopf wants them too); ``tls`` turns them into an SSL context.
Format: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
"""

import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec
import yaml

from tenantry_operator.kube.errors import ConfigError
from tenantry_operator.kube.tokens import ExecToken, FileToken, StaticToken, TokenSource

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Access:
    """An API server and our identity there."""

    server: str
    ca: bytes | None = None
    insecure: bool = False
    certificate: bytes | None = None
    key: bytes | None = None
    tokens: TokenSource = field(default_factory=StaticToken)

    def tls(self) -> ssl.SSLContext | bool:
        """The SSL context; ``True`` stands for the system's own roots. Raises ConfigError for bad certificates."""
        if not self.server.startswith("https:"):
            return True
        try:
            context = ssl.create_default_context(cadata=self.ca.decode() if self.ca else None)
            if self.insecure:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if self.certificate and self.key:
                # The ssl module reads certificates from files only; they exist for the length of this call, mode 0600.
                with tempfile.NamedTemporaryFile() as pem:
                    pem.write(self.certificate + b"\n" + self.key)
                    pem.flush()
                    context.load_cert_chain(pem.name)
        except (ssl.SSLError, UnicodeDecodeError) as error:
            raise ConfigError(f"certificates for {self.server} are unusable: {error}") from error
        return context


def load(kubeconfig: Path | None, *, context: str = "") -> Access:
    """``kubeconfig`` if given, else ``$KUBECONFIG``, else the pod's service account, else ``~/.kube/config``.

    ``context`` instead of the current one; what names one is no pod. Raises ConfigError that names what is missing.
    """
    if kubeconfig is not None:
        return from_kubeconfig(kubeconfig, context=context)
    named = [Path(path) for path in os.environ.get("KUBECONFIG", "").split(os.pathsep) if path]
    if named:
        return from_kubeconfig(*named, context=context)
    if "KUBERNETES_SERVICE_HOST" in os.environ and not context:
        return in_cluster(SERVICE_ACCOUNT)
    return from_kubeconfig(Path.home() / ".kube" / "config", context=context)


def in_cluster(directory: Path) -> Access:
    """The identity that the kubelet mounts into every pod with a service account."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise ConfigError("KUBERNETES_SERVICE_HOST is not set: not in a pod; give --kubeconfig")
    try:
        ca = (directory / "ca.crt").read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{directory}/ca.crt: {error.strerror}; the pod needs automountServiceAccountToken"
        ) from error
    address = f"[{host}]" if ":" in host else host
    return Access(server=f"https://{address}:{port}", ca=ca, tokens=FileToken(directory / "token"))


class _NamedEntry(msgspec.Struct):
    name: str


class _ClusterData(msgspec.Struct, rename="kebab"):
    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False


class _ExecEnv(msgspec.Struct):
    name: str
    value: str


class _Exec(msgspec.Struct):
    command: str
    api_version: str = msgspec.field(default="client.authentication.k8s.io/v1", name="apiVersion")
    args: list[str] | None = None
    env: list[_ExecEnv] | None = None


class _UserData(msgspec.Struct, rename="kebab"):
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = msgspec.field(default="", name="tokenFile")
    exec: _Exec | None = None


class _ContextData(msgspec.Struct):
    cluster: str = ""
    user: str = ""


class _Cluster(_NamedEntry):
    cluster: _ClusterData


class _User(_NamedEntry):
    user: _UserData


class _Context(_NamedEntry):
    context: _ContextData


class _Kubeconfig(msgspec.Struct, rename="kebab"):
    current_context: str = ""
    clusters: list[_Cluster] = []
    users: list[_User] = []
    contexts: list[_Context] = []


def from_kubeconfig(*paths: Path, context: str = "") -> Access:
    """A context of a kubeconfig file (default: the current one). Of several files, the first that names a thing wins.

    Relative paths are relative to the file that they are in, as in kubectl. Of several files some may be missing.
    """
    files = [(path, _read(path)) for path in paths if len(paths) == 1 or path.exists()]
    where = os.pathsep.join(map(str, paths))
    wanted = context or next((read.current_context for _, read in files if read.current_context), "")
    _, chosen = _named([(path, each) for path, read in files for each in read.contexts], wanted, where, "context")
    its = chosen.context
    path, found = _named(
        [(path, each) for path, read in files for each in read.clusters], its.cluster, where, "cluster"
    )
    cluster = found.cluster
    if not cluster.server:
        raise ConfigError(f"kubeconfig {path}: cluster {its.cluster!r} has no server")
    ca = _material(path, cluster.certificate_authority_data, cluster.certificate_authority)
    path, known = _named([(path, each) for path, read in files for each in read.users], its.user, where, "user")
    user = known.user
    return Access(
        server=cluster.server.rstrip("/"),
        ca=ca,
        insecure=cluster.insecure_skip_tls_verify,
        certificate=_material(path, user.client_certificate_data, user.client_certificate),
        key=_material(path, user.client_key_data, user.client_key),
        tokens=_tokens(path, user),
    )


def _read(path: Path) -> _Kubeconfig:
    try:
        return msgspec.convert(yaml.safe_load(path.read_bytes()), _Kubeconfig)
    except OSError as error:
        raise ConfigError(f"kubeconfig {path}: {error.strerror}") from error
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigError(f"kubeconfig {path}: {error}") from error


_Entry = TypeVar("_Entry", bound=_NamedEntry)


def _named(entries: Sequence[tuple[Path, _Entry]], name: str, where: str, what: str) -> tuple[Path, _Entry]:
    for path, entry in entries:
        if entry.name == name:
            return path, entry
    raise ConfigError(f"kubeconfig {where}: there is no {what} {name!r}")


def _material(path: Path, data: str, file: str) -> bytes | None:
    try:
        if data:
            return base64.b64decode(data, validate=True)
        return (path.parent / file).read_bytes() if file else None
    except (OSError, binascii.Error) as error:
        raise ConfigError(f"kubeconfig {path}: {file or 'certificate data'}: {error}") from error


def _tokens(path: Path, user: _UserData) -> TokenSource:
    if user.exec is not None:
        # Plugins take from it which version of ExecCredential to print, as client-go tells them.
        asked = {"apiVersion": user.exec.api_version, "kind": "ExecCredential", "spec": {"interactive": False}}
        environment = {"KUBERNETES_EXEC_INFO": msgspec.json.encode(asked).decode()}
        environment |= {pair.name: pair.value for pair in user.exec.env or []}
        return ExecToken([user.exec.command, *(user.exec.args or [])], environment)
    if user.token_file:
        return FileToken(path.parent / user.token_file)
    return StaticToken(user.token or None)
