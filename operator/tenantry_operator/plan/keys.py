"""An API key's life: issued, rotated, expired, forgotten. What its record should be at a given moment, and until when.

The record lives in one annotation of the key's Secret, beside the key itself, so that both change in one write. It
holds digests only. Two rules make it safe to compute again and again, by whoever comes first:

- ``rotation`` only grows: a key is issued for a number once, and going back to a number that was used issues nothing;
- the end of a former key only comes nearer: a shorter ``gracePeriod`` ends it sooner, a longer one never revives it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from tenantry_operator.api.resolve import ResolvedKey

#: Former keys that are remembered for one name. Rotated more often than that within one grace period, those that would
#: end first end at once: a list without a bound could outgrow its annotation and the policy.
MAX_FORMER = 8

#: How long before its end a key that expires is reported. A week holds a weekend and a change window.
NOTICE = timedelta(days=7)


#: With an offset, so that it can be compared.
Moment = Annotated[datetime, Meta(tz=True)]


class FormerKey(Struct, frozen=True, kw_only=True):
    """A key that was replaced and still opens the door until ``until``."""

    id: str
    sha256: str
    replaced: Moment
    until: Moment


class IssuedKey(Struct, frozen=True, kw_only=True):
    """A key that exists, without its secret. ``rotation`` and ``expires_at`` are as they were last noted."""

    name: str
    id: str
    sha256: str
    rotation: int = 0
    expires_at: datetime | None = None
    former: tuple[FormerKey, ...] = ()


class _Note(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The annotation's content."""

    id: str
    sha256: str
    rotation: int = 0
    expires_at: Moment | None = None
    former: tuple[FormerKey, ...] = ()


def noted(key: IssuedKey) -> str:
    """The text to keep beside the key. The same record gives the same text."""
    note = _Note(id=key.id, sha256=key.sha256, rotation=key.rotation, expires_at=key.expires_at, former=key.former)
    return msgspec.json.encode(note, order="deterministic").decode()


def recalled(name: str, shown: tuple[str, str] | None, text: str | None, wanted: ResolvedKey) -> IssuedKey | None:
    """The record of a key whose Secret shows a key of this id and digest (None: nothing that is one) and this note.

    The note says which key was issued, whatever the Secret shows: see ``is_tampered``. A note that is missing or
    that nobody can read counts as "just issued": what is shown goes on, and former keys, which nothing vouches for any
    more, are refused. None when there is neither.
    """
    try:
        note = msgspec.json.decode(text or "", type=_Note)
    except (msgspec.DecodeError, UnicodeDecodeError):
        if shown is None:
            return None
        note = _Note(id=shown[0], sha256=shown[1], rotation=wanted.rotation)
    return IssuedKey(
        name=name,
        id=note.id,
        sha256=note.sha256,
        rotation=note.rotation,
        expires_at=note.expires_at,
        former=note.former,
    )


def is_tampered(key: IssuedKey, shown: tuple[str, str] | None) -> bool:
    """Whether the Secret shows another key than was issued, which then has to be replaced.

    Who can write to a Secret must not be able to choose a key; and what was overwritten nobody can read again.
    """
    return shown != (key.id, key.sha256)


def rotation_due(key: IssuedKey, wanted: ResolvedKey) -> bool:
    """Whether the spec asks for a new key."""
    return wanted.rotation > key.rotation


def kept(key: IssuedKey, wanted: ResolvedKey, now: datetime) -> IssuedKey:
    """The record of the same key as it should be now: what has ended is forgotten."""
    grace = timedelta(seconds=wanted.grace_period_seconds)
    # Compared by difference: a sum could lie beyond the last date that there is.
    former = [
        each if each.until - each.replaced <= grace else replace(each, until=each.replaced + grace)
        for each in key.former
    ]
    return replace(key, expires_at=wanted.expires_at, former=tuple(each for each in former if each.until > now))


def rotated(key: IssuedKey, wanted: ResolvedKey, key_id: str, sha256: str, now: datetime) -> IssuedKey:
    """The record of the key that takes the place of ``key``, which is good for another grace period.

    A key that was to expire sooner still does so: neither its own end nor one that has passed is put off.
    """
    until = now + timedelta(seconds=wanted.grace_period_seconds)
    if key.expires_at is not None:
        until = min(until, key.expires_at)
    leaving = FormerKey(id=key.id, sha256=key.sha256, replaced=now, until=until)
    former = sorted((*kept(key, wanted, now).former, leaving), key=lambda each: each.until)
    return IssuedKey(
        name=key.name,
        id=key_id,
        sha256=sha256,
        rotation=max(wanted.rotation, key.rotation),
        expires_at=wanted.expires_at,
        former=tuple(each for each in former if each.until > now)[-MAX_FORMER:],
    )


def settled(keys: Sequence[IssuedKey], wanted: Sequence[ResolvedKey], now: datetime) -> bool:
    """Whether these are the wanted keys, each as it should be now."""
    found = {key.name: key for key in keys}
    return found.keys() == {key.name for key in wanted} and all(
        not rotation_due(found[key.name], key) and kept(found[key.name], key, now) == found[key.name] for key in wanted
    )


def next_change(keys: Sequence[IssuedKey], now: datetime) -> datetime | None:
    """When time alone will change something next: a former key's end, a notice, an end; None: never."""
    moments = [each.until for key in keys for each in key.former]
    ends = [key.expires_at for key in keys if key.expires_at is not None]
    # Subtracted in this order, since the first year of all has no week before it.
    moments += [end - NOTICE if end - now > NOTICE else end for end in ends]
    return min((moment for moment in moments if moment > now), default=None)


def expired(keys: Sequence[IssuedKey], now: datetime) -> list[IssuedKey]:
    """The keys that are past their end."""
    return [key for key in keys if key.expires_at is not None and key.expires_at <= now]


def expiring(keys: Sequence[IssuedKey], now: datetime) -> list[IssuedKey]:
    """The keys whose end is near."""
    return [key for key in keys if key.expires_at is not None and timedelta() < key.expires_at - now <= NOTICE]


def replacement(key: IssuedKey, replaced: IssuedKey, *, tampered: bool) -> str:
    """What to tell people of a new key: ids, which are no secrets, and until when both are good."""
    until = next((each.until for each in key.former if each.id == replaced.id), None)
    fate = "is refused from now on" if until is None else f"is good until {until:%Y-%m-%dT%H:%M:%SZ}"
    cause = "somebody had changed its Secret; " if tampered else ""
    return f"Key {key.name}: {cause}tn_{key.id} takes the place of tn_{replaced.id}, which {fate}"
