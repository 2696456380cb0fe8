"""What is known of one tenant, and what follows from it: the input and the output of ``assess``."""

from collections.abc import Mapping
from datetime import datetime
from enum import Enum, auto

from msgspec import Struct

from tenantry_operator.api.conditions import Reason
from tenantry_operator.api.decode import FieldError
from tenantry_operator.api.meta import ObjectMeta
from tenantry_operator.api.resolve import ResolvedSpec
from tenantry_operator.api.tenant import Tenant, TenantStatus, Usage
from tenantry_operator.api.tier import TenantTier
from tenantry_operator.plan.desired import Wanted
from tenantry_operator.plan.drift import Drift
from tenantry_operator.plan.exposure import Reach, Way
from tenantry_operator.plan.hostnames import Granted
from tenantry_operator.plan.keys import IssuedKey
from tenantry_operator.plan.observed import Child, Workload
from tenantry_operator.plan.standing import Choice

#: Seconds until a look at something that no watch reports: a foreign namespace, a refused object.
RECHECK = 60.0
#: Seconds between looks at something that a watch does report. Only against a missed event.
FALLBACK = 120.0
#: Seconds between looks at a namespace on its way out.
TERMINATING_POLL = 5.0


class State(Enum):
    """Every situation that a Tenant can be in. Those above the line have a step that leads out of them."""

    UNPREPARED = auto()  # our finalizer or the set's bookkeeping is missing
    UNCLAIMED = auto()  # the namespace or our rights in it are missing
    KEYLESS = auto()  # a key is not issued, not what it should be by now, or not known to this process yet
    OUTDATED = auto()  # something else should be applied than was
    DRIFTED = auto()  # somebody changed or deleted what was applied
    DELETING = auto()
    # ----
    BLOCKED = auto()  # nothing helps but a change of something else; the reason names it
    SUSPENDED = auto()  # spec.suspend.reconcile
    NAMESPACE_TERMINATING = auto()
    FAILED = auto()  # a step was refused
    PAUSED = auto()  # spec.suspend.traffic
    ASLEEP = auto()
    PROGRESSING = auto()
    STUCK = auto()  # pods do not come up, or the gateway does not take the route
    READY = auto()


class LimiterMode(Enum):
    """What a pod does while it cannot reach the shared counters, in its own words."""

    REFUSING = "refusing"
    LOCAL_SHARE = "local_share"

    @classmethod
    def of(cls, said: str) -> "LimiterMode | None":
        """None for one that counts as it should."""
        return next((mode for mode in cls if mode.value == said), None)


class Failure(Exception):  # noqa: N818 - it is also a value that Facts and conditions carry
    """A step cannot be done now. ``stalled``: trying again changes nothing until something else changes."""

    def __init__(self, reason: Reason, message: str, *, stalled: bool = True, requeue: float = RECHECK) -> None:
        super().__init__(message)
        self.reason, self.message, self.stalled, self.requeue = reason, message, stalled, requeue


class Assessment(Struct, frozen=True, kw_only=True):
    """The state, why, and when to look again (seconds; None: when an event comes)."""

    state: State
    reason: Reason
    message: str = ""
    stalled: bool = False
    requeue: float | None = None
    degraded: tuple[Reason, str] | None = None
    drifted: bool = False


class Facts(Struct, frozen=True, kw_only=True):
    """All that is known of one tenant at this moment."""

    #: This moment.
    now: datetime
    meta: ObjectMeta
    status: TenantStatus
    tenant: Tenant | FieldError
    tier: TenantTier | FieldError | None = None
    #: What holds for the tenant (see ``resolved``), or why that cannot be said.
    spec: ResolvedSpec | Assessment
    namespace: Child | None = None
    children: tuple[Child, ...] = ()
    workload: Workload | None = None
    #: Each credentials Secret that exists and can be used, and what tells its content from any other.
    credentials: Mapping[str, str] = {}
    #: None as long as they are not known to be what they should be by now.
    keys: tuple[IssuedKey, ...] | None = None
    #: As far as they have been looked at: Secrets of tenants are not watched.
    secrets_intact: bool = True
    #: What should be applied; None as long as keys are not known.
    wanted: Wanted | None = None
    #: The namespace was made in this very reconcile.
    fresh: bool = False
    #: What was found changed by somebody else and put back in this very reconcile.
    drifts: tuple[Drift, ...] = ()
    #: The queue spaces this tenant's reconciles out because it changes too often.
    throttled: bool = False
    #: Which revision of the tier holds; ``tier`` has its defaults. None until the tier's roll-out is decided upon.
    choice: Choice | None = None
    #: Whether all pods count together, what is wrong with that, and what the ledger says was used.
    counts_shared: bool = False
    store_problem: tuple[Reason, str] | None = None
    limiter_mode: tuple[LimiterMode, int, int] | None = None
    usage: Usage | None = None
    #: What leads to it from outside now, and what it does not get of what it asks for.
    reach: Reach = Reach()
    granted: Granted = Granted()
    #: What this installation is set to, whether the cluster has it or not.
    way: Way = Way.NONE
    #: Pods that the Deployment does not count any more and that serve until their replacements are Ready; and since
    #: when those are awaited longer than they should be.
    standing_in: int = 0
    replacement_awaited: datetime | None = None
    #: When something is known to be due (a key expires, a wave begins), whatever else happens.
    next_due: datetime | None = None


def on_the_way(state: State) -> Assessment:
    """A state that does not last: a step or an event leads out of it."""
    return Assessment(state=state, reason=Reason.PROGRESSING, requeue=FALLBACK)


def blocked(reason: Reason, message: str) -> Assessment:
    """Nothing helps but a change of something else, which the message names."""
    return Assessment(state=State.BLOCKED, reason=reason, message=message, stalled=True)
