"""Pods say how they count; what they say is noted once for each change."""

from tenantry_operator.live import Live
from tenantry_operator.modes import Modes
from tenantry_operator.plan.facts import LimiterMode
from tenantry_operator.pods import Pod, Pods
from tenantry_operator.scaling.inflight import InFlight

REFUSING, LOCAL_SHARE = LimiterMode.REFUSING, LimiterMode.LOCAL_SHARE


class World:
    """Pods of acme, by what they say (None: nothing), and what was noted."""

    def __init__(self) -> None:
        self.live, self.pods, self.says, self.told = Live(), Pods(), dict[str, str | None](), list[str]()
        self.modes = Modes(self.live, self.pods, self._read, self.told.append)

    async def hears(self, *says: str | None) -> object:
        """Ask acme's pods."""
        for number, said in enumerate(says):
            ip = f"10.0.0.{number}"
            self.says[ip] = said
            pod = Pod(tenant="acme", name=ip, uid=ip, version=1, ip=ip, ready=True, serve="yes")
            self.pods.changed(pod, False)
        await self.modes.ask("acme")
        return self.live.limiter_modes.get("acme")

    async def _read(self, address: str) -> InFlight | None:
        said = self.says[address]
        return None if said is None else InFlight(requests=0, limiter=said)


async def test_pods_that_count_together_are_no_news() -> None:
    world = World()
    assert await world.hears("shared", "shared") is None
    assert await world.hears("memory", "") is None
    assert world.told == []


async def test_what_most_of_those_do_that_are_cut_off_is_told_once() -> None:
    world = World()
    assert await world.hears("refusing", "shared", "local_share", "refusing") == (REFUSING, 2, 4)
    assert await world.hears("refusing", "shared", "local_share", "refusing") == (REFUSING, 2, 4)
    assert world.told == ["acme"]
    assert await world.hears("local_share", "shared", "local_share", "shared") == (LOCAL_SHARE, 2, 4)
    assert await world.hears("shared", "shared", "shared", "shared") is None
    assert world.told == ["acme"] * 3


async def test_a_pod_that_does_not_answer_changes_nothing() -> None:
    world = World()
    await world.hears("refusing")
    assert await world.hears(None) == (REFUSING, 1, 1)
    assert world.told == ["acme"]
