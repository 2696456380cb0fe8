"""Whether a tenant should fall asleep, sleep, or wake up, and what to do next for it. Pure: facts in, one step out.

Every fact can be read from the cluster (pods wanted and serving, the activator's slice in the tenant's Service) or is
told again by the activators, so an operator that starts anew goes on where another one ended:

    awake --idle for long enough--> ANNOUNCE to the activators --they know it--> COVER: the Service leads to them, too
          --and still idle after that--> SLEEP: no pods --a good key asks--> WAKE: a pod --it serves--> UNCOVER

The activator is in the path before the last pod goes, and until after the first one serves.
"""

from enum import Enum, auto

from msgspec import Struct

#: Seconds from when the Service leads to the activator until pods may go: kube-proxy and gateways take note within one
#: or two; and pods are asked once more after that.
COVERED = 3.0
#: Seconds without any activator after which nobody is left asleep: their requests would find nobody.
DESERTED = 120.0
#: Seconds for which a tenant that has woken up stays known to the activators: who has not heard of its pods yet still
#: sends requests there.
LINGER = 30.0


class Step(Enum):
    """What to do for a tenant now. One at a time; after it, ask again."""

    NOTHING = auto()
    ANNOUNCE = auto()  # tell the activators of it
    COVER = auto()  # let its Service lead to the activators
    SLEEP = auto()  # no pods
    WAKE = auto()  # one pod
    UNCOVER = auto()  # let its Service lead to its pods only
    WITHDRAW = auto()  # the activators may forget it


class Situation(Struct, frozen=True, kw_only=True):
    """One tenant, as far as it matters here. Times in seconds."""

    #: By its spec: it may be without pods (``autoscaling.minReplicas: 0``), and after how long.
    may_sleep: bool
    idle_after: float
    #: No traffic by the user's wish, being deleted, or under nobody's hand: its pods are none of our business.
    hands_off: bool
    #: Nothing is to be changed (``suspend.reconcile``); but whoever sleeps and is asked for still wakes up.
    frozen: bool = False
    #: Pods that its Deployment is to have, and those of them that serve.
    wanted: int
    serving: int
    #: For how long all of its pods have been idle; None if one is not, or does not say.
    idle_for: float | None
    #: The same, asked after the Service led to the activators: None if not all pods have said so since.
    idle_since_covered: float | None
    #: Where its Service leads beside its pods, if anywhere, and since when.
    covered_by: frozenset[str] | None
    covered_for: float
    #: Activators that there are, whether they all know this tenant, and whether it is on their list at all.
    activators: frozenset[str]
    announced: bool
    known: bool
    #: An activator holds requests for it.
    demanded: bool
    #: No activator was heard of for so long.
    deserted_for: float = 0.0
    #: Since it last was uncovered.
    uncovered_for: float = float("inf")


def step(now: Situation) -> Step:
    """The next step."""
    if now.hands_off:
        return _leave(now)
    if now.wanted == 0:
        return _asleep(now)
    if now.may_sleep and not now.frozen and now.activators and not now.demanded and _idle(now):
        return _falling_asleep(now)
    if now.covered_by is not None:
        if now.serving:
            return Step.UNCOVER
        return _kept_covered(now)
    return _leave(now)


def _asleep(now: Situation) -> Step:
    if now.demanded or (not now.may_sleep and not now.frozen):
        return Step.WAKE
    if not now.activators and now.deserted_for >= DESERTED:
        return Step.WAKE  # nobody else would
    return _kept_covered(now)


def _kept_covered(now: Situation) -> Step:
    if not now.activators:
        return Step.NOTHING
    if not now.announced:
        return Step.ANNOUNCE
    return Step.COVER if now.covered_by != now.activators and now.known else Step.NOTHING


def _falling_asleep(now: Situation) -> Step:
    if not now.announced:
        return Step.ANNOUNCE
    if not now.known:
        return Step.NOTHING
    if now.covered_by != now.activators:
        return Step.COVER
    if now.covered_for < COVERED or now.idle_since_covered is None or now.idle_since_covered < now.idle_after:
        return Step.NOTHING
    return Step.SLEEP


def _idle(now: Situation) -> bool:
    return now.idle_for is not None and now.idle_for >= now.idle_after


def _leave(now: Situation) -> Step:
    if now.covered_by is not None:
        return Step.UNCOVER
    if now.announced and now.uncovered_for >= LINGER:
        return Step.WITHDRAW
    return Step.NOTHING
