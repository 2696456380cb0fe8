"""Users in Redis' own words: what a tenant's user may do, and whether a user that Redis shows is as it should be. Pure.

https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/
"""

from msgspec import Struct

from tenantry_operator.plan.store import prefix, user

#: What the pods' limiter sends and what its scripts call: Redis checks the rights of whoever runs a script, too.
#: Nothing that lists keys, looks at other clients or changes the server.
COMMANDS = (
    "auth",
    "hello",
    "select",
    "ping",
    "time",
    "evalsha",
    "eval",
    "script|load",
    "get",
    "set",
    "del",
    "exists",
    "hset",
    "hsetnx",
    "hget",
    "hdel",
    "hexists",
    "zadd",
    "zrem",
    "zcard",
    "zcount",
    "zscore",
    "zremrangebyscore",
    "xadd",
    "pexpire",
    "expire",
)

#: Shown for every user, or for one that lacks something, and of no consequence beside the rest.
_NEUTRAL = frozenset({"sanitize-payload", "resetchannels", "resetkeys", "-@all"})


class Seen(Struct, frozen=True):
    """A user as ``ACL LIST`` shows it. ``rules``: all but the passwords."""

    name: str
    digests: frozenset[str]
    rules: frozenset[str]


def seen(line: str) -> Seen:
    """Read one line of ``ACL LIST``: ``user <name> <rule> …``."""
    _, name, *rules = line.split()
    digests = frozenset(rule[1:] for rule in rules if rule.startswith("#"))
    others = frozenset(rule for rule in rules if not rule.startswith("#"))
    return Seen(name, digests, others - _NEUTRAL)


def rights(tenant: str) -> frozenset[str]:
    """The rules of a tenant's user, as ``Seen.rules`` has them."""
    return frozenset({"on", f"~{prefix(tenant)}*", *(f"+{command}" for command in COMMANDS)})


def granted(tenant: str, digest: str) -> tuple[str, ...]:
    """Make the user, or put its rights right, and let this password in; others that are good stay good."""
    rules = [f"+{command}" for command in COMMANDS]
    keys = f"~{prefix(tenant)}*"
    return ("ACL", "SETUSER", user(tenant), "on", f"#{digest}", "resetkeys", keys, "resetchannels", "-@all", *rules)


def narrowed(tenant: str, digests: frozenset[str]) -> tuple[str, ...]:
    """Let these passwords in no more. Connections that were made with them stay."""
    return ("ACL", "SETUSER", user(tenant), *(f"!{digest}" for digest in sorted(digests)))


def removed(tenant: str) -> tuple[str, ...]:
    """Take the user away, and cut its connections."""
    return ("ACL", "DELUSER", user(tenant))


def is_right(found: Seen, tenant: str, digest: str) -> bool:
    """Whether the user may do what it should, no more, and gets in with this password."""
    return digest in found.digests and found.rules == rights(tenant)
