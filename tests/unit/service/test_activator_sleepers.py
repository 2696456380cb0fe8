"""What the activator knows of sleepers while operators come and go. Pure."""

import hashlib

from tenantry_service import errors
from tenantry_service.activator.sleepers import FRESH, UNKNOWN_KEY, Sleepers
from tenantry_service.roster import Sleeper, SleeperKey, SyncAnswer


class Clock:
    """Time that passes when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def bearer(tenant: str) -> bytes:
    return f"Bearer tn_{tenant}_secret".encode()


def sleeper(tenant: str, version: int = 1, *, gone: bool = False) -> Sleeper:
    digest = hashlib.sha256(f"tn_{tenant}_secret".encode()).hexdigest()
    return Sleeper(tenant=tenant, version=version, keys=(SleeperKey(id=tenant, sha256=digest),), gone=gone)


def answer(epoch: str, version: int, *sleepers: Sleeper, complete: bool = True) -> SyncAnswer:
    return SyncAnswer(epoch=epoch, version=version, complete=complete, sleepers=sleepers)


def test_a_key_is_called_bad_only_when_all_sleepers_are_known() -> None:
    clock = Clock()
    sleepers = Sleepers(clock)
    assert sleepers.admit(bearer("acme"), 0.0) is UNKNOWN_KEY
    sleepers.take(answer("one", 1, sleeper("acme"), complete=False), "")
    assert sleepers.admit(bearer("bert"), 0.0) is UNKNOWN_KEY
    sleepers.take(answer("one", 1), "one")
    assert sleepers.admit(bearer("bert"), 0.0) is errors.WRONG_KEY
    clock.now += FRESH + 1
    assert sleepers.admit(bearer("bert"), 0.0) is UNKNOWN_KEY


def test_what_the_last_operator_told_holds_until_the_new_one_has_told_all() -> None:
    sleepers = Sleepers(Clock())
    sleepers.take(answer("one", 7, sleeper("acme", 6), sleeper("bert", 7)), "")
    sleepers.take(answer("two", 1, sleeper("acme", 1), complete=False), "one")
    assert isinstance(sleepers.admit(bearer("bert"), 0.0), Sleeper)
    assert sleepers.admit(bearer("carl"), 0.0) is UNKNOWN_KEY
    sleepers.take(answer("two", 2), "two")
    assert isinstance(sleepers.admit(bearer("acme"), 0.0), Sleeper)
    assert sleepers.admit(bearer("bert"), 0.0) is errors.WRONG_KEY


def test_answers_that_overtake_each_other_do_no_harm() -> None:
    sleepers = Sleepers(Clock())
    sleepers.take(answer("one", 3, sleeper("acme", 3, gone=True)), "")
    sleepers.take(answer("two", 1, sleeper("acme", 1)), "one")
    sleepers.take(answer("one", 4, sleeper("acme", 4, gone=True)), "one")  # late
    assert isinstance(sleepers.admit(bearer("acme"), 0.0), Sleeper)
    sleepers.take(answer("two", 2, sleeper("acme", 2, gone=True)), "two")
    sleepers.take(answer("two", 1, sleeper("acme", 1)), "two")
    assert len(sleepers) == 1 or sleepers.find("acme") is None
