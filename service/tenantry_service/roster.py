"""What the activator knows of sleeping tenants: the contract between the operator, who tells, and it, who asks.

No more than it needs: key ids with digests, whether the budget is spent, and where pods are. It has no policy, no
upstream credential and no right in the cluster.
"""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

#: Where the activator asks, of the operator that leads.
PATH = "/activator/v1/sync"

Key = Annotated[str, Meta(min_length=1, max_length=64)]


class SleeperKey(Struct, frozen=True, rename="camel"):
    """A key that is good for its tenant."""

    id: Key
    #: Hex digits of the SHA-256 of the whole key.
    sha256: str
    expires_at: datetime | None = None


class Sleeper(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A tenant whose requests may come to the activator: it sleeps, falls asleep or wakes up."""

    tenant: str
    #: Of the roster, when this entry was written.
    version: int = 0
    keys: tuple[SleeperKey, ...] = ()
    #: The budget is spent, and requests beyond it are refused.
    budget_spent: bool = False
    #: Pods that take requests, as host:port.
    addresses: tuple[str, ...] = ()
    #: It is no sleeper any more.
    gone: bool = False


class SyncRequest(Struct, frozen=True, kw_only=True, rename="camel"):
    """What an activator says of itself, again and again."""

    #: Its pod's name, and where its pod takes requests.
    instance: Annotated[str, Meta(min_length=1, max_length=253)]
    address: Annotated[str, Meta(min_length=2, max_length=45)]
    port: Annotated[int, Meta(ge=1, le=65535)]
    #: Up to which version of which roster it knows all.
    epoch: str = ""
    version: int = 0
    #: It ends: no more requests are to come to it.
    leaving: bool = False
    #: Answer at once, even if there is nothing new.
    at_once: bool = False
    #: Tenants that it holds requests for.
    wake: Annotated[tuple[str, ...], Meta(max_length=10_000)] = ()


class SyncAnswer(Struct, frozen=True, kw_only=True, rename="camel"):
    """What has changed since. A new ``epoch`` is another operator's roster: ``sleepers`` are then all that it has."""

    epoch: str
    version: int
    #: It has every tenant whose requests come to activators. An operator that has just started has not looked at all of
    #: them yet: until then who is not in it may be a sleeper all the same.
    complete: bool = False
    sleepers: tuple[Sleeper, ...] = ()


encode = msgspec.json.encode
decode_request = msgspec.json.Decoder(SyncRequest).decode
decode_answer = msgspec.json.Decoder(SyncAnswer).decode
