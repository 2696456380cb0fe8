"""``key list``, ``key show``, ``key rotate`` and ``key revoke``."""

import argparse
import base64
import time
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from tenantry_operator.api.allowance import Key
from tenantry_operator.api.tenant import Tenant
from tenantry_operator.kube import errors
from tenantry_operator.plan import names

from tenantry_kubectl.change import warn
from tenantry_kubectl.output import Form, emit
from tenantry_kubectl.seen import Secret
from tenantry_kubectl.session import Problem, Session, decoded, in_namespace
from tenantry_kubectl.tables import table

T = TypeVar("T")

#: Seconds that the operator gets to issue a key. It takes less than one.
PATIENCE = 30.0
#: A grace period that cuts former keys off.
NONE = "0s"


class _Former(Struct, frozen=True):
    id: str
    until: datetime


class _Note(Struct, frozen=True, rename="camel"):
    """What the Secret's annotation says of the key, without digests."""

    id: str = ""
    rotation: int = 0
    expires_at: datetime | None = None
    former: list[_Former] = []


def list_keys(session: Session, options: argparse.Namespace) -> int:
    """Names, ids and ends of a Tenant's keys; never a secret."""
    tenant = session.tenant(options.name)
    found = [(key, _note(session, options.name, key.name)) for key in declared(session, tenant)]
    if options.output in (Form.JSON, Form.YAML):
        emit([{"name": key.name, **(msgspec.to_builtins(note) if note else {})} for key, note in found], options.output)
        return 0
    rows = [
        (
            key.name,
            f"tn_{note.id}" if note else "<not issued>",
            str(note.rotation if note else key.rotation),
            f"{key.expires_at:%Y-%m-%dT%H:%M:%SZ}" if key.expires_at else "never",
            ", ".join(f"tn_{each.id} until {each.until:%Y-%m-%dT%H:%M:%SZ}" for each in note.former) if note else "",
        )
        for key, note in found
    ]
    print(table(("NAME", "ID", "ROTATION", "EXPIRES", "FORMER"), rows))
    return 0


def show(session: Session, options: argparse.Namespace) -> int:
    """Print one key and nothing else, for `$(…)`."""
    tenant = session.tenant(options.name)
    _entry(declared(session, tenant), options.key, options.name)
    secret = _secret(session, options.name, options.key)
    if secret is None:
        raise Problem(
            f"key {options.key!r} of {options.name!r} is not issued yet;"
            f" `kubectl tenant describe {options.name}` says what holds it up"
        )
    print(base64.b64decode(secret.data.get(names.SECRET_FIELD, "")).decode())
    return 0


def rotate(session: Session, options: argparse.Namespace) -> int:
    """Have a new key issued; the former one stays good for the grace period."""
    return _renew(session, options.name, options.key, options.grace_period)


def revoke(session: Session, options: argparse.Namespace) -> int:
    """Refuse a key and all former ones within seconds; issue a new one, or none (``--remove``)."""
    if not options.remove:
        return _renew(session, options.name, options.key, NONE)
    raw = session.raw(options.name)
    tenant = decoded(raw)
    keys = declared(session, tenant)
    entry = _entry(keys, options.key, options.name)
    rest = [each for each in keys if each.name != entry.name]
    if not rest:
        raise Problem(
            f"{options.key!r} is the only key of {options.name!r}: without --remove it is refused and a new one issued"
        )
    session.change(tenant, {"keys": [_plain(each) for each in rest]})
    _eventually(
        lambda: True if _secret(session, options.name, options.key) is None else None,
        f"the Secret {names.key_secret(options.key)} is still there",
        options.name,
    )
    print(f"key {options.key} of tenant/{options.name} is revoked and removed")
    warn(raw, "keys")
    return 0


def _renew(session: Session, name: str, key: str, grace_period: str | None) -> int:
    raw = session.raw(name)
    tenant = decoded(raw)
    keys = declared(session, tenant)
    entry, before = _entry(keys, key, name), _note(session, name, key)
    used = max(entry.rotation, before.rotation if before else 0)
    raised = replace(entry, rotation=used + 1, grace_period=grace_period or entry.grace_period)
    session.change(tenant, {"keys": _with(keys, raised)})
    note = _issued(session, name, key, used + 1)
    if grace_period == NONE and entry.grace_period != NONE:
        # Meant for this rotation. What is cut off stays so: a longer grace period brings no key back.
        again = replace(raised, grace_period=entry.grace_period)
        session.change(session.tenant(name), {"keys": _with(keys, again)})
    former = next((each for each in note.former if before and each.id == before.id and grace_period != NONE), None)
    good = f"tn_{former.id} stays good until {former.until:%Y-%m-%dT%H:%M:%SZ}" if former else "the former is refused"
    print(f"key {key} of tenant/{name} is now tn_{note.id}; {good}")
    print(f"`kubectl tenant key show {name} --key {key}` prints it")
    warn(raw, "keys")
    return 0


def declared(session: Session, tenant: Tenant) -> list[Key]:
    """The keys that the Tenant names, or else its tier, or else the one that everybody has."""
    for keys in (tenant.spec.keys, session.tier(tenant.spec.tier).spec.keys):
        if keys is not None:
            return list(keys)
    return [Key(name="default")]


def _entry(keys: list[Key], wanted: str, tenant: str) -> Key:
    for each in keys:
        if each.name == wanted:
            return each
    there = ", ".join(each.name for each in keys) or "none"
    raise Problem(f"Tenant {tenant!r} has no key {wanted!r}; there are: {there} (choose with --key)")


def _with(keys: list[Key], changed: Key) -> list[object]:
    return [_plain(changed if each.name == changed.name else each) for each in keys]


def _plain(key: Key) -> object:
    said = msgspec.to_builtins(key)
    return {name: value for name, value in said.items() if value is not None}


def _secret(session: Session, tenant: str, key: str) -> Secret | None:
    try:
        return session.api.find(in_namespace(tenant, "secrets", names.key_secret(key)), Secret)
    except errors.Forbidden as error:
        raise Problem(
            f"you may not read the keys of {tenant!r}: owners may (spec.owners), or whoever may read Secrets there"
        ) from error


def _note(session: Session, tenant: str, key: str) -> _Note | None:
    secret = _secret(session, tenant, key)
    if secret is None:
        return None
    try:
        return msgspec.json.decode(secret.metadata.annotations.get(names.KEY_NOTE, "{}"), type=_Note)
    except msgspec.DecodeError:
        return _Note()


def _issued(session: Session, tenant: str, key: str, rotation: int) -> _Note:
    def now() -> _Note | None:
        note = _note(session, tenant, key)
        return note if note is not None and note.rotation >= rotation else None

    return _eventually(now, f"key {key!r} was asked for but is not issued yet", tenant)


def _eventually(probe: Callable[[], T | None], otherwise: str, tenant: str) -> T:
    deadline = time.monotonic() + PATIENCE
    while (found := probe()) is None:
        if time.monotonic() > deadline:
            raise Problem(f"{otherwise}; is the operator running? `kubectl tenant describe {tenant}` says more")
        time.sleep(0.2)
    return found
