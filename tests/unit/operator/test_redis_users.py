"""A tenant's user in Redis: what it may do, and how a user that Redis shows is judged."""

import re

import pytest
from tenantry_operator.redis import acl
from tenantry_service.limits.calls import SCRIPTS

DIGEST, OTHER = "a" * 64, "b" * 64
COMMANDS = " ".join(f"+{command}" for command in acl.COMMANDS)
#: As Redis 7 lists one.
LINE = f"user tenant-acme on sanitize-payload #{DIGEST} ~tn:{{acme}}:* resetchannels -@all {COMMANDS}"


def test_a_user_as_it_should_be_is_found_right() -> None:
    assert acl.is_right(acl.seen(LINE), "acme", DIGEST)
    assert acl.is_right(acl.seen(LINE.replace(f"#{DIGEST}", f"#{OTHER} #{DIGEST}")), "acme", DIGEST)


@pytest.mark.parametrize(
    ("said", "instead"),
    [
        (" on ", " off "),
        (" on ", " on nopass "),
        (f"#{DIGEST} ", ""),
        (DIGEST, OTHER),
        ("~tn:{acme}:*", "~tn:{globex}:*"),
        ("~tn:{acme}:*", "~tn:{acme}:* ~tn:{globex}:*"),
        ("~tn:{acme}:*", "~*"),
        ("-@all", "+@all"),
        ("+xadd", "+xadd +xread"),
        ("+xadd", ""),
        ("resetchannels", "&*"),
    ],
)
def test_a_user_that_may_do_more_or_less_is_not(said: str, instead: str) -> None:
    assert said in LINE
    assert not acl.is_right(acl.seen(LINE.replace(said, instead)), "acme", DIGEST)


def test_whatever_the_limiters_scripts_call_is_allowed() -> None:
    called = {name.lower() for script in SCRIPTS for name in re.findall(rb"redis\.call\('([A-Z]+)'", script.text)}
    assert len(called) > 5
    assert {name.decode() for name in called} <= set(acl.COMMANDS)


def test_a_user_gets_its_own_keys_and_neither_others_nor_the_server() -> None:
    command = acl.granted("acme", DIGEST)
    assert command[:5] == ("ACL", "SETUSER", "tenant-acme", "on", f"#{DIGEST}")
    assert [rule for rule in command if rule.startswith(("~", "%", "&"))] == ["~tn:{acme}:*"]
    dangerous = re.compile(
        "keys|scan|acl|config|flush|client|monitor|debug|script$|function|publish|subscribe|move|swapdb"
    )
    assert not [each for each in acl.COMMANDS if dangerous.search(each)]
