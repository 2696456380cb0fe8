"""Where Redis is and who we are there: one line in a file, ``redis[s]://[user[:password]@]host[:port][/db]``. Pure.

``rediss`` is TLS; ``?ca=/path`` names the certificates to trust instead of the system's.
"""

from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

DEFAULT_PORT = 6379
_EXAMPLE = "write one like redis://user:password@host:6379/0 into the file"


class AddressError(ValueError):
    """The line is no such URL; the message says why, and never holds the password."""


class Address(NamedTuple):
    """A Redis and the credentials for it. The user is empty for Redis' default user."""

    host: str
    port: int
    tls: bool
    user: str
    password: str
    database: int
    ca_file: str

    def __repr__(self) -> str:
        return f"Address({self.host!r}, {self.port}, {self.user!r})"


def parse(text: str) -> Address:
    """Read the content of the file.

    Raises:
        AddressError: see there.
    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise AddressError(f"it is not a URL; {_EXAMPLE}") from None
    if parts.scheme not in ("redis", "rediss"):
        raise AddressError(f"it does not begin with redis:// or rediss://; {_EXAMPLE}")
    if not host:
        raise AddressError(f"it names no host; {_EXAMPLE}")
    database = parts.path.strip("/")
    if database and not (database.isdecimal() and len(database) < 6):
        raise AddressError(f"its database is not a number; {_EXAMPLE}")
    return Address(
        host,
        port or DEFAULT_PORT,
        parts.scheme == "rediss",
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        int(database or "0"),
        parse_qs(parts.query).get("ca", [""])[0],
    )
