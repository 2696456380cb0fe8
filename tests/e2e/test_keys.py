"""What a developer's key opens, and from when on it no longer does, on every pod of the tenant."""

import base64
import time
from datetime import UTC, datetime, timedelta

import openai
import pytest

from tests.e2e.world import ANSWER, HELLO, MODEL, Access, World, answers, namespace, tenant, until

#: Seconds within which a revoked key is refused everywhere.
REVOKED_WITHIN = 5.0


def test_a_rotated_key_works_beside_the_former_one_until_the_grace_ends(world: World) -> None:
    rotation = {"name": "default", "gracePeriod": "12s"}
    with world.tenant("rotating", keys=[rotation]) as applied:
        former = ready(world, "rotating")
        began = time.monotonic()
        world.apply(changed(applied, keys=[rotation | {"rotation": 1}]))
        until(lambda: shown(world, "rotating") != former.key, "the Secret shows a new key", pause=0.05)
        current = Access(former.endpoint, shown(world, "rotating"))
        until(lambda: asked(current) == ANSWER, "the new key opens the door", pause=0.05)
        assert asked(former) == ANSWER
        assert time.monotonic() - began < 11, "the machine was too slow to see the grace period"
        until(lambda: asked(former) != ANSWER, "the former key is refused", pause=0.2)
        assert time.monotonic() - began >= 12
        assert asked(current) == ANSWER
        assert "KeyRotated" in world.kubectl("describe", "tenant", "rotating")


@pytest.mark.parametrize("how", ["rotated without grace", "taken out of the spec"])
def test_a_revoked_key_is_refused_by_every_pod_within_five_seconds(
    world: World, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    scaled = {"minReplicas": 2, "maxReplicas": 2}
    keys = [{"name": "default", "gracePeriod": "0s"}, {"name": "other"}]
    with world.tenant("revoking", keys=keys, autoscaling=scaled) as applied:
        leaked = ready(world, "revoking")
        until(lambda: all_ready(world, "revoking", 2), "both pods are ready")
        other = Access(leaked.endpoint, shown(world, "revoking", "other"))
        left = [keys[0] | {"rotation": 1}, keys[1]] if how == "rotated without grace" else keys[1:]
        world.apply(changed(applied, keys=left))
        began = last = time.monotonic()
        while time.monotonic() - began < REVOKED_WITHIN + 2:  # on new connections: any pod may take them
            if asked(leaked) == ANSWER:
                last = time.monotonic()
        with capsys.disabled():
            print(f"\nkey {how}: applied -> last time that a pod took it {last - began:.2f} s")
        assert last - began <= REVOKED_WITHIN
        assert asked(leaked) == "invalid_api_key"
        assert asked(other) == ANSWER
        gone = how == "taken out of the spec"
        assert world.exists("secret", "key-default", "--namespace", namespace("revoking")) is not gone


def test_a_key_is_refused_from_the_second_of_its_end(world: World) -> None:
    with world.tenant("ending") as applied:
        access = ready(world, "ending")
        end = (datetime.now(UTC) + timedelta(seconds=8)).replace(microsecond=0)
        world.apply(changed(applied, keys=[{"name": "default", "expiresAt": end.isoformat()}]))
        assert asked(access) == ANSWER
        until(lambda: asked(access) != ANSWER, "it is refused", pause=0.05)
        refused = datetime.now(UTC)
        assert timedelta() <= refused - end < timedelta(seconds=2)
        assert asked(access) == "expired_api_key"


def ready(world: World, name: str) -> Access:
    """Wait until the tenant's endpoint answers to its key."""
    world.wait_ready(name)
    access = world.access(name)
    until(lambda: answers(access), "the endpoint answers", pause=0.05)
    return access


def changed(applied: dict[str, object], **spec: object) -> dict[str, object]:
    """The manifest that was applied, with this in its spec."""
    before = applied["spec"]
    assert isinstance(before, dict)
    metadata = applied["metadata"]
    assert isinstance(metadata, dict)
    return tenant(metadata["name"], None, **{**before, **spec})


def shown(world: World, name: str, key: str = "default") -> str:
    """The key that the Secret shows."""
    secret = world.get("secret", f"key-{key}", "--namespace", namespace(name))
    return base64.b64decode(secret["data"]["api-key"]).decode()


def all_ready(world: World, name: str, number: int) -> bool:
    pods = world.pods(name)
    conditions = [each for pod in pods for each in pod["status"].get("conditions", []) if each["type"] == "Ready"]
    return len(pods) == number and all(each["status"] == "True" for each in conditions)


def asked(access: Access) -> str | None:
    """The answer to a chat, or the error's code; `None` while nothing answers."""
    try:
        with access.sdk() as sdk:
            return sdk.chat.completions.create(model=MODEL, messages=HELLO).choices[0].message.content
    except openai.APIConnectionError:
        return None
    except openai.APIStatusError as refused:
        return refused.code
