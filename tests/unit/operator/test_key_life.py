"""What becomes of a key as its spec and the clock go on."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.resolve import ResolvedKey
from tenantry_operator.api.tenant import TenantStatus
from tenantry_operator.apply.kinds import GROUP_KINDS
from tenantry_operator.live import Live, TenantRecord
from tenantry_operator.look import Lookout
from tenantry_operator.plan.assess import assess
from tenantry_operator.plan.desired import policy
from tenantry_operator.plan.facts import Facts, State
from tenantry_operator.plan.keys import (
    MAX_FORMER,
    NOTICE,
    FormerKey,
    IssuedKey,
    kept,
    next_change,
    noted,
    recalled,
    replacement,
    rotated,
    rotation_due,
    settled,
)
from tenantry_operator.queue import Turn
from tenantry_operator.render import Objects
from tenantry_service.proxy.snapshot import Snapshot, TenantView

from tests.unit.operator.tenants import KEY, NOW, PLATFORM, tenant, tier
from tests.unit.operator.tenants import settled as settled_facts
from tests.unit.operator.test_desired import resolved

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def wanted(rotation: int = 0, grace: timedelta = DAY, expires_at: datetime | None = None) -> ResolvedKey:
    """What the spec says of the key."""
    seconds = int(grace.total_seconds())
    return ResolvedKey(name="default", rotation=rotation, grace_period_seconds=seconds, expires_at=expires_at)


def after(key: IssuedKey, spec: ResolvedKey, now: datetime) -> IssuedKey:
    """What the operator makes of the key when it looks at it now."""
    if not rotation_due(key, spec):
        return kept(key, spec, now)
    return rotated(key, spec, f"{key.id[:4]}{spec.rotation:08d}", f"{spec.rotation:064x}", now)


def good(key: IssuedKey, now: datetime) -> set[str]:
    """The ids of the keys that open the door now."""
    current = {key.id} if key.expires_at is None or key.expires_at > now else set()
    return current | {each.id for each in key.former if each.until > now}


def test_the_former_key_is_good_for_its_grace_period_and_not_a_moment_longer() -> None:
    new = after(KEY, wanted(1, HOUR), NOW)
    assert good(new, NOW + HOUR - timedelta(microseconds=1)) == {KEY.id, new.id}
    assert good(new, NOW + HOUR) == {new.id}
    assert next_change([new], NOW) == NOW + HOUR
    assert not settled([new], [wanted(1, HOUR)], NOW + HOUR)
    forgotten = after(new, wanted(1, HOUR), NOW + HOUR)
    assert forgotten.former == ()
    assert next_change([forgotten], NOW + HOUR) is None


def test_without_a_grace_period_the_former_key_is_refused_at_once() -> None:
    assert after(KEY, wanted(1, timedelta()), NOW).former == ()


def test_a_number_that_was_used_issues_nothing() -> None:
    third = after(KEY, wanted(3), NOW)
    for earlier in (2, 0, 3):
        assert after(third, wanted(earlier), NOW).id == third.id
    assert after(third, wanted(4), NOW).id != third.id


def test_rotated_again_within_the_grace_all_former_keys_have_their_own_end() -> None:
    one = after(KEY, wanted(1), NOW)
    two = after(one, wanted(2), NOW + HOUR)
    assert [(each.id, each.until) for each in two.former] == [(KEY.id, NOW + DAY), (one.id, NOW + HOUR + DAY)]


def test_former_keys_are_bounded_and_the_one_that_ends_first_goes_first() -> None:
    key = KEY
    for rotation in range(1, MAX_FORMER + 3):
        key = after(key, wanted(rotation), NOW + rotation * HOUR)
    assert len(key.former) == MAX_FORMER
    assert key.former[0].until == NOW + 3 * HOUR + DAY


def test_a_shorter_grace_ends_a_former_key_and_a_longer_one_does_not_revive_it() -> None:
    new = after(KEY, wanted(1), NOW)
    later = NOW + HOUR
    assert good(after(new, wanted(1, 2 * HOUR), later), NOW + 2 * HOUR) == {new.id}
    ended = after(new, wanted(1, timedelta()), later)
    assert ended.former == ()
    assert after(ended, wanted(1, 30 * DAY), later).former == ()


def test_a_former_key_does_not_outlive_its_own_end() -> None:
    expiring = after(KEY, wanted(expires_at=NOW + HOUR), NOW)
    new = after(expiring, wanted(1, DAY, expires_at=NOW + 30 * DAY), NOW + timedelta(minutes=1))
    assert good(new, NOW + HOUR) == {new.id}
    expired = after(KEY, wanted(expires_at=NOW), NOW)
    assert after(expired, wanted(1), NOW + HOUR).former == ()


def test_people_are_told_ids_and_ends_but_no_digest() -> None:
    new = after(KEY, wanted(1, HOUR), NOW)
    assert replacement(new, KEY, tampered=False) == (
        f"Key default: tn_{new.id} takes the place of tn_{KEY.id}, which is good until 2026-01-02T04:04:05Z"
    )
    at_once = replacement(after(KEY, wanted(1, timedelta()), NOW), KEY, tampered=True)
    assert "somebody had changed its Secret" in at_once
    assert at_once.endswith("which is refused from now on")


MOMENTS = st.datetimes(timezones=st.just(UTC))
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
IDS = st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=12, max_size=12)
FORMER = st.builds(FormerKey, id=IDS, sha256=DIGESTS, replaced=MOMENTS, until=MOMENTS)
KEYS = st.builds(
    IssuedKey,
    name=st.just("default"),
    id=IDS,
    sha256=DIGESTS,
    rotation=st.integers(0, 5),
    expires_at=st.none() | MOMENTS,
    former=st.lists(FORMER, max_size=3).map(tuple),
)


@given(KEYS)
def test_a_note_brings_back_what_was_noted(key: IssuedKey) -> None:
    assert recalled(key.name, None, noted(key), wanted()) == key


EDITS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from([timedelta(), HOUR, DAY]),
        st.none() | st.integers(0, 100).map(lambda hours: NOW + hours * HOUR),
        st.integers(0, 30).map(lambda hours: hours * HOUR),
    ),
    max_size=8,
)


@given(EDITS)
def test_whatever_the_spec_does_no_former_key_comes_back_and_each_rotation_issues_one_key(
    edits: list[tuple[int, timedelta, datetime | None, timedelta]],
) -> None:
    key, now, refused, seen = KEY, NOW, set[str](), {KEY.id}
    highest = 0
    for rotation, grace, expires_at, passed in edits:
        now += passed
        before = key
        spec = wanted(rotation, grace, expires_at)
        key = after(key, spec, now)
        assert after(key, spec, now) == key
        assert settled([key], [spec], now)
        assert (key.id != before.id) is (rotation > highest)
        highest = max(highest, rotation)
        former = {each.id for each in key.former}
        assert not former & refused
        refused |= seen - former - {key.id}
        seen |= former | {key.id}


@given(KEYS, MOMENTS)
def test_between_two_changes_nothing_changes(key: IssuedKey, now: datetime) -> None:
    spec = wanted(key.rotation, timedelta(days=36_500), key.expires_at)
    change = next_change([kept(key, spec, now)], now)
    assert change is None or change > now
    if change is None:
        assert kept(key, spec, datetime.max.replace(tzinfo=UTC)) == kept(key, spec, now)


@pytest.mark.parametrize("end", [None, NOW + HOUR])
def test_the_service_takes_both_keys_until_the_grace_ends(end: datetime | None) -> None:
    spec = resolved(keys=[{"name": "default", "rotation": 1, **({"expiresAt": end} if end else {})}])
    key = after(KEY, spec.keys[0], NOW)
    document = policy("acme", 3, spec, [key])
    assert [(each.id, each.name) for each in document.keys] == [(key.id, "default"), (KEY.id, "default")]
    assert document.keys[1].expires_at == (end or NOW + DAY)
    Snapshot([TenantView(document, {})])


class Unrendered:
    """A renderer that is asked for digests only."""

    chart = "tenant-0.1.0"

    def digest(self, values: object) -> str:
        """Equal for equal values."""
        return str(hash(repr(values)))

    async def render(self, release: str, namespace: str, values: object) -> Objects:
        """Not reached."""
        raise AssertionError


def look(spec: dict[str, object], *keys: IssuedKey, now: datetime = NOW) -> Facts:
    """What the operator knows of a Tenant with these keys."""
    live = Live()
    live.put_tier({"metadata": {"name": "standard", "resourceVersion": "1"}, "spec": msgspec.to_builtins(tier().spec)})
    lookout = Lookout(live, Unrendered(), PLATFORM)
    made = tenant(keys=[{"name": "default", **spec}])
    facts = lookout.look(TenantRecord(made.metadata, TenantStatus(), made), Turn(), now)
    return lookout.keyed(facts, keys)


def test_keys_that_are_not_what_they_should_be_by_now_count_as_unknown_until_they_are() -> None:
    assert look({"rotation": 1}, KEY).wanted is None
    held = after(KEY, wanted(1, HOUR), NOW)
    spec: dict[str, object] = {"rotation": 1, "gracePeriod": "1h"}
    in_grace = look(spec, held)
    assert in_grace.wanted is not None
    assert in_grace.next_due == NOW + HOUR
    assert look(spec, held, now=NOW + HOUR).wanted is None
    forgotten = look(spec, after(held, wanted(1, HOUR), NOW + HOUR), now=NOW + HOUR)
    assert forgotten.wanted is not None
    assert forgotten.wanted.digest != in_grace.wanted.digest
    assert forgotten.next_due is None


@pytest.mark.parametrize(
    ("left", "reason", "requeue"),
    [
        (timedelta(days=30), None, timedelta(days=23)),
        (NOTICE, Reason.KEY_EXPIRING, NOTICE),
        (HOUR, Reason.KEY_EXPIRING, HOUR),
        (timedelta(), Reason.KEY_EXPIRED, None),
        (-HOUR, Reason.KEY_EXPIRED, None),
    ],
)
def test_a_key_that_ends_is_reported_a_week_before_and_after_its_end(
    left: timedelta, reason: Reason | None, requeue: timedelta | None
) -> None:
    end = NOW + left
    key = replace(KEY, expires_at=end)
    found = assess(settled_facts(tenant=tenant(keys=[{"name": "default", "expiresAt": end}]), keys=(key,)), GROUP_KINDS)
    assert found.state is State.READY
    assert (found.degraded[0] if found.degraded else None) is reason
    assert look({"expiresAt": end}, key).next_due == (NOW + requeue if requeue else None)
    if found.degraded:
        assert "key default (20" in found.degraded[1]
