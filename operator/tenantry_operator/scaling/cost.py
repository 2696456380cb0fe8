"""Which pod goes first when there are to be fewer. Pure.

One pod is marked, the one with the least to do; a scale-down takes one pod a minute, so the others need no rank. And it
keeps the mark until another is clearly better: marks are writes, and loads change every second.
"""

from collections.abc import Mapping, Sequence

from tenantry_operator.pods import Pod
from tenantry_operator.scaling.inflight import InFlight

#: The mark; a pod without one has 0.
FIRST = -1
#: Another pod takes the mark if it has so many requests fewer, or none at all while the marked one has some.
CLEARLY = 8


def marks(pods: Sequence[Pod], loads: Mapping[str, InFlight]) -> dict[str, int | None]:
    """Costs to write, by the pod's name (None: take it away). ``loads`` by uid; a pod that does not say is not moved.

    Nothing as long as not all pods have said what they do: the one that is silent may be the idlest.
    """
    if len(pods) < 2 or any(each.uid not in loads for each in pods):
        return {}
    weight = {each.uid: loads[each.uid].requests for each in pods}
    idlest = min(pods, key=lambda each: (weight[each.uid], each.cost, each.name))
    marked = min(pods, key=lambda each: (each.cost, each.name))
    stays = marked.cost < 0 and not _clearly_less(weight[idlest.uid], weight[marked.uid])
    chosen = marked if stays else idlest
    wrong = {each.name: None for each in pods if each.cost != 0 and each is not chosen}
    return {**wrong, **({chosen.name: FIRST} if chosen.cost != FIRST else {})}


def _clearly_less(one: int, other: int) -> bool:
    return other - one >= CLEARLY or (one == 0 and other > 0)
