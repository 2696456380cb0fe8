"""The shared counters (Redis) as a tenant's pods reach them: by which address, as which user, with which password.

Passwords are not stored but derived from one secret of the installation and the Tenant's uid (HMAC-SHA256). So a Secret
that was lost comes back with the same password, users that Redis has forgotten are made again without reading
thousands of Secrets, and another secret rotates all of them.
"""

import base64
import hashlib
import hmac
import ipaddress
from urllib.parse import unquote, urlsplit

from msgspec import Struct

DEFAULT_PORT = 6379

#: What ``Facts.credentials`` calls the pods' URL; no Secret can have this name.
SOURCE = "redis/url"


class Address(Struct, frozen=True, kw_only=True):
    """Where Redis is, and as whom the operator itself goes there."""

    tls: bool
    host: str
    port: int
    database: int
    user: str
    password: str

    def __repr__(self) -> str:
        return f"Address({self.host!r}, {self.port})"  # without the password: this ends in logs

    @property
    def netloc(self) -> str:
        """Host and port, as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address(url: str) -> Address:
    """Read ``redis[s]://[user]:password@host[:port][/database]``. Raises ValueError, which does not show the URL."""
    remedy = "must be a URL such as redis://user:password@redis.example.com:6379/0, or rediss:// for TLS"
    try:
        parts = urlsplit(url.strip())
        port = DEFAULT_PORT if parts.port is None else parts.port
        database = int(parts.path.removeprefix("/") or "0")
    except ValueError:
        raise ValueError(f"the URL of Redis {remedy}") from None
    if parts.scheme not in ("redis", "rediss") or not parts.hostname or not port or database < 0:
        raise ValueError(f"the URL of Redis {remedy}")
    return Address(
        tls=parts.scheme == "rediss",
        host=parts.hostname,
        port=port,
        database=database,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )


class Store(Struct, frozen=True, kw_only=True):
    """All that tenants' pods need to know of it. ``cidrs``: where it is, if not in this cluster."""

    tls: bool
    host: str
    port: int
    database: int
    seed: bytes
    cidrs: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Store({self.host!r}, {self.port})"

    def password(self, tenant: str, uid: str) -> str:
        """256 bits, as 43 characters that a URL may hold as they are."""
        mac = hmac.digest(self.seed, f"redis/{tenant}/{uid}".encode(), "sha256")
        return base64.urlsafe_b64encode(mac).decode().rstrip("=")

    def digest(self, tenant: str, uid: str) -> str:
        """SHA-256 of the password, in which form Redis keeps it."""
        return hashlib.sha256(self.password(tenant, uid).encode()).hexdigest()

    def url(self, tenant: str, uid: str) -> str:
        """What the tenant's pods connect with."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "rediss" if self.tls else "redis"
        return f"{scheme}://{user(tenant)}:{self.password(tenant, uid)}@{host}:{self.port}/{self.database}"

    def content(self, tenant: str, uid: str) -> str:
        """What tells this URL from any other, without telling it."""
        return hashlib.sha256(f"{uid}/{self.url(tenant, uid)}".encode()).hexdigest()[:16]


def store(found: Address, seed: bytes, cidrs: tuple[str, ...] = ()) -> Store:
    """What the pods need of the operator's own way there. Raises ValueError when nothing would let them through.

    Tenants' NetworkPolicies name namespaces or address ranges, so a host outside the cluster needs its ranges.
    """
    if not cidrs and namespace_of_host(found.host) is None:
        try:
            single = ipaddress.ip_address(found.host)
        except ValueError:
            raise ValueError(
                f"--redis-cidr is required: Redis at {found.host} is not a Service of this cluster, so the"
                " tenants' network policies have to name the address ranges that it is in, for example 10.0.0.0/16"
            ) from None
        cidrs = (f"{single}/{single.max_prefixlen}",)
    for cidr in cidrs:
        ipaddress.ip_network(cidr)  # raises ValueError that names it
    return Store(
        tls=found.tls, host=found.host, port=found.port, database=found.database, seed=seed, cidrs=tuple(sorted(cidrs))
    )


def namespace_of_host(host: str) -> str | None:
    """The namespace of a Service's name, ``<service>.<namespace>.svc[.<cluster domain>]``."""
    labels = host.split(".")
    return labels[1] if len(labels) >= 3 and labels[2] == "svc" else None


def user(tenant: str) -> str:
    """The tenant's user in Redis."""
    return f"tenant-{tenant}"


def prefix(tenant: str) -> str:
    """What all keys of a tenant begin with. In braces is what decides on the slot in a Redis Cluster."""
    return f"tn:{{{tenant}}}:"
