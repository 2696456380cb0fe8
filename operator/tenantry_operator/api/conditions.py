"""Conditions of a Tenant, and the closed set of reasons that they may give.

Shape: KEP-1623 (``type``, ``status``, ``observedGeneration``, ``lastTransitionTime``, ``reason``, ``message``).
Meaning of Ready, Reconciling and Stalled: kstatus
(https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md), so that ``kubectl wait``, Flux and
Argo CD judge a Tenant rightly.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from msgspec import Struct
from msgspec.structs import replace

from tenantry_operator.api.rules import about, number, text


class ConditionType(StrEnum):
    """What a condition is about. The first three are kstatus' own; the others are True only while something is so."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    SUSPENDED = "Suspended"
    DRIFTED = "Drifted"
    DEGRADED = "Degraded"


class ConditionStatus(StrEnum):
    """True, False or not known (yet)."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Reason(StrEnum):
    """Why a condition has its status: every reason that the operator ever gives, with its meaning.

    Metrics, Events and documentation use these names; ``Reason.X.meaning`` is the line beside each.
    """

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    # All is well.
    READY = "Ready", "Everything is applied and at least one pod answers."
    AS_EXPECTED = "AsExpected", "Nothing to report: what this condition warns of is not the case."

    # On the way.
    PENDING = "Pending", "The operator has not come to this Tenant yet."
    PROGRESSING = "Progressing", "Objects are applied; the endpoint's pods are not ready yet."
    PROGRESSING_WITH_RETRY = (
        "ProgressingWithRetry",
        "The last attempt failed in a way that passes; the next one is scheduled.",
    )
    DELETING = "Deleting", "The Tenant is being deleted; its namespace is being emptied."
    NAMESPACE_TERMINATING = (
        "NamespaceTerminating",
        "The namespace is still going away; it is made anew once it is gone.",
    )

    # Nothing will change until somebody changes something.
    INVALID_SPEC = "InvalidSpec", "The Tenant and its tier together do not make sense; the message names the field."
    TIER_NOT_FOUND = "TierNotFound", "spec.tier names a TenantTier that does not exist; heals by itself once it does."
    TIER_INVALID = "TierInvalid", "The TenantTier cannot be read; the message names the field."
    CREDENTIALS_NOT_FOUND = (
        "CredentialsNotFound",
        "An upstream's credentialsSecret does not exist or has no api-key; heals by itself once it does.",
    )
    NAMESPACE_CONFLICT = (
        "NamespaceConflict",
        "The namespace exists and belongs to somebody else; it is not taken over unless it says that it may be.",
    )
    OBJECT_CONFLICT = "ObjectConflict", "An object of that name belongs to another applier; it is left as it is."
    APPLY_FORBIDDEN = (
        "ApplyForbidden",
        "The API server does not allow the operator (RBAC) or refuses the object (admission).",
    )
    RENDER_FAILED = "RenderFailed", "The tenant chart cannot be rendered from these values."
    RETRIES_EXCEEDED = "RetriesExceeded", "Too many attempts failed; the operator only looks again now and then."
    INTERNAL_ERROR = "InternalError", "The operator met an error that it does not know; its log says more."
    CIRCUIT_OPEN = "CircuitOpen", "The Tenant changes more often than it can settle; its reconciles are spaced out."

    # The endpoint itself.
    PODS_NOT_READY = "PodsNotReady", "Pods exist, none is ready; the message says what they wait for."
    DEADLINE_EXCEEDED = "DeadlineExceeded", "The Deployment made no progress within its deadline."
    QUOTA_BLOCKED = (
        "QuotaBlocked",
        "The namespace's quota refuses a pod that is needed; it is asked for again once there is room.",
    )
    PARTLY_AVAILABLE = "PartlyAvailable", "The endpoint answers, with fewer pods than wanted."
    ROUTE_PENDING = "RoutePending", "The gateway's controller has not said yet whether it takes the route."
    ROUTE_NOT_ACCEPTED = (
        "RouteNotAccepted",
        "The gateway does not serve the Tenant's route; the message has its controller's words.",
    )
    NOT_EXPOSED = "NotExposed", "Nothing in this cluster leads to the Tenant from outside; the message says what lacks."
    HOSTNAME_TAKEN = "HostnameTaken", "A host name that the Tenant asks for is another's; the message says whose."
    REPLACEMENT_PENDING = (
        "ReplacementPending",
        "A pod's node goes away and its replacement is not Ready for lack of room; the old pod serves to the end.",
    )
    LIMITS_PER_REPLICA = (
        "LimitsPerReplica",
        "Each pod counts for itself, because no shared counters are configured.",
    )
    LIMITS_UNREACHABLE = (
        "LimitsUnreachable",
        "The shared counters (Redis) do not answer the operator, or refuse it; who is not cut off from them goes on.",
    )
    LIMITS_REFUSING = (
        "LimitsRefusing",
        "Pods cannot reach the shared counters and refuse requests (503), as limits.whenUnavailable says.",
    )
    LIMITS_LOCAL_SHARE = (
        "LimitsLocalShare",
        "Pods cannot reach the shared counters and grant a share of the limits each, as limits.whenUnavailable says.",
    )

    # Told once, by an Event.
    NAMESPACE_ADOPTED = "NamespaceAdopted", "A namespace that said so was taken over, with what is in it."
    KEY_ROTATED = "KeyRotated", "A new key took the place of one; the message says until when that is still good."
    KEY_EXPIRING = "KeyExpiring", "A key comes to its end within a week; the message says which and when."
    KEY_EXPIRED = "KeyExpired", "A key that the spec names is past its end and is refused."

    # Chosen by the user.
    ASLEEP = "Asleep", "Scaled to zero for want of traffic; the next request wakes the tenant."
    TRAFFIC_SUSPENDED = "TrafficSuspended", "spec.suspend.traffic is set: no pods run, everything else is kept."
    RECONCILE_SUSPENDED = "ReconcileSuspended", "spec.suspend.reconcile is set: the operator changes nothing."

    # Roll-outs of a tier.
    UP_TO_DATE = "UpToDate", "Every Tenant of the tier is on its newest revision."
    ROLLING_OUT = "RollingOut", "A wave of Tenants is being moved to the newest revision."
    BETWEEN_WAVES = "BetweenWaves", "A wave has been moved and is watched for a while before the next one begins."
    ROLLING_BACK = "RollingBack", "All Tenants are being moved back to a former revision, without waves."
    ROLLOUT_PAUSED = "RolloutPaused", "spec.rollout.paused is set: nobody is moved."
    ROLLOUT_HALTED = "RolloutHalted", "Tenants that were moved are not Ready; nobody else is moved until they are."
    REVISION_NOT_FOUND = "RevisionNotFound", "The revision named does not exist, or is another tier's."

    # Drift.
    DRIFT_CORRECTED = "DriftCorrected", "A managed object had been edited or deleted and was put back."


class Condition(Struct, frozen=True, kw_only=True, rename="camel"):
    """One condition as it stands in the status. Lenient: another version's reason must not stop a reconcile."""

    type: Annotated[str, text("What the condition is about.", min_length=1, max_length=316)]
    status: Annotated[ConditionStatus, about("True, False or Unknown.")]
    reason: Annotated[str, text("Why, as one CamelCase word of a closed set.", min_length=1, max_length=1024)]
    message: Annotated[str, text("Why, for people; empty when the reason says it all.", max_length=32768)] = ""
    observed_generation: Annotated[int, number("The metadata.generation that this was judged on.", ge=0, le=2**53)] = 0
    last_transition_time: Annotated[datetime, about("When status last changed.")]


class Verdict(Struct, frozen=True, kw_only=True):
    """A condition as it should be now, before it has a time. The only way to make one, so reasons stay a closed set."""

    type: ConditionType
    status: ConditionStatus
    reason: Reason
    message: str = ""


def transition(
    previous: Iterable[Condition], verdicts: Iterable[Verdict], *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The new condition list: ``lastTransitionTime`` moves only where ``status`` changes, whatever else changes.

    Conditions of types that no verdict names (somebody else's) stay as they are. Ordered by type, our own first.
    """
    before = {condition.type: condition for condition in previous}
    result: list[Condition] = []
    for verdict in verdicts:
        old = before.pop(verdict.type, None)
        fresh = Condition(
            type=verdict.type.value,
            status=verdict.status,
            reason=verdict.reason.value,
            message=verdict.message,
            observed_generation=generation,
            last_transition_time=now.replace(microsecond=0),
        )
        if old is not None and old.status == fresh.status:
            fresh = replace(fresh, last_transition_time=old.last_transition_time)
        result.append(fresh)
    order = {kind.value: place for place, kind in enumerate(ConditionType)}
    result.sort(key=lambda condition: order[condition.type])
    return (*result, *before.values())
