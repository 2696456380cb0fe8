"""Tenant: one customer. ``spec`` is what the platform team says, ``status`` what the operator saw and did."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Struct

from tenantry_operator.api.conditions import Condition, ConditionStatus, ConditionType, Reason
from tenantry_operator.api.meta import ObjectMeta
from tenantry_operator.api.rollout import Standing, revision_name
from tenantry_operator.api.rules import DNS_LABEL, DNS_LABEL_REMEDY, Rule, about, number, sequence, text
from tenantry_operator.api.settings import Settings

#: How many former revisions a Tenant remembers.
HISTORY_LENGTH = 5


class TenantSpec(Settings, frozen=True, kw_only=True, rename="camel"):
    """What one customer gets: a tier, and whatever differs from it."""

    tier: Annotated[
        str,
        text(
            "The TenantTier that gives every default.",
            min_length=1,
            max_length=63,
            pattern=DNS_LABEL,
            remedy=f"{DNS_LABEL_REMEDY}; `kubectl get tenanttiers` lists what there is",
        ),
    ]
    tier_revision: (
        Annotated[
            str,
            revision_name(
                "Keep the Tenant on this revision of its tier, whatever is rolled out, until this is taken away again."
                " Default: none."
            ),
        ]
        | None
    ) = None

    rules: ClassVar = (
        Rule(
            "!has(self.tierRevision) || self.tierRevision.startsWith(self.tier + '-')",
            "must be a revision of the tier that spec.tier names, for example <tier>-0a1b2c3d4e",
            ".tierRevision",
        ),
    )


class Outcome(StrEnum):
    """How a revision went."""

    APPLIED = "Applied"
    READY = "Ready"
    FAILED = "Failed"


class Applied(Struct, frozen=True, kw_only=True, rename="camel"):
    """What was applied last."""

    digest: Annotated[str, text("SHA-256 over chart, values and renderer.", max_length=128)]
    chart: Annotated[str, text("Name and version of the tenant chart.", max_length=128)]
    revision: Annotated[int, number("Counts the digests that were applied.", ge=0, le=2**53)]
    fingerprint: Annotated[
        str, text("Hash of the fields that the operator owns in the live objects; unequal means drift.", max_length=64)
    ] = ""
    tier_revision: Annotated[str, text("The revision of the tier that it was made from.", max_length=253)] = ""
    inputs: Annotated[
        str, text("SHA-256 over what the Tenant itself brought in, without tier, image and chart.", max_length=128)
    ] = ""


class Revision(Struct, frozen=True, kw_only=True, rename="camel"):
    """One entry of the history."""

    revision: Annotated[int, number("Which one, counted from 1.", ge=0, le=2**53)]
    digest: Annotated[str, text("SHA-256 over chart, values and renderer.", max_length=128)]
    chart: Annotated[str, text("Name and version of the tenant chart.", max_length=128)]
    time: Annotated[datetime, about("When it was applied.")]
    outcome: Annotated[Outcome, about("How it went.")]
    tier_revision: Annotated[str, text("The revision of the tier that it was made from.", max_length=253)] = ""


class Usage(Struct, frozen=True, kw_only=True, rename="camel"):
    """What was used and spent in the budget's current window."""

    window_start: Annotated[datetime, about("When the window began.")] | None = None
    requests: Annotated[int, number("Requests answered.", ge=0, le=2**53)] = 0
    tokens: Annotated[int, number("Tokens, in and out.", ge=0, le=2**53)] = 0
    spend: Annotated[str, text("US dollars, as a decimal string.", max_length=32)] = "0.00"


class TenantStatus(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    observed_generation: Annotated[
        int, number("The metadata.generation that this status is about.", ge=0, le=2**53)
    ] = 0
    conditions: Annotated[
        tuple[Condition, ...],
        sequence("Ready, Reconciling, Stalled, and Suspended, Drifted, Degraded.", max_length=16, keys=("type",)),
    ] = ()
    namespace: Annotated[str, text("Where the tenant lives.", max_length=63)] = ""
    endpoint: Annotated[str, text("Base URL for the OpenAI SDK.", max_length=512)] = ""
    hostnames: Annotated[
        tuple[Annotated[str, text("A host name.", max_length=253)], ...],
        sequence("Those of exposure.hostnames that are the Tenant's; what another had first is not.", max_length=16),
    ] = ()
    replicas: Annotated[int, number("Pods that there are.", ge=0, le=2**31 - 1)] = 0
    ready_replicas: Annotated[int, number("Pods that answer.", ge=0, le=2**31 - 1)] = 0
    deletion_protection: Annotated[
        bool, about("Whether deletion is refused, after the tier's default; read by the admission policy.")
    ] = False
    applied: Annotated[Applied, about("What was applied last.")] | None = None
    history: Annotated[
        tuple[Revision, ...], sequence("The latest revisions, newest first.", max_length=HISTORY_LENGTH)
    ] = ()
    rollout: Annotated[Standing, about("Where it stands in the roll-outs of its tier.")] | None = None
    usage: Annotated[Usage, about("What was used and spent in the window, as far as it is in the ledger.")] | None = (
        None
    )


#: What a new Tenant's status says until the operator has written one. The API server fills it in (it is the schema's
#: default, as in the Gateway API), so that nobody takes a Tenant without conditions for a finished one (kstatus).
PENDING = TenantStatus(
    conditions=(
        Condition(
            type=ConditionType.READY.value,
            status=ConditionStatus.UNKNOWN,
            reason=Reason.PENDING.value,
            message="Waiting for the operator",
            last_transition_time=datetime(1970, 1, 1, tzinfo=UTC),
        ),
    )
)


class Tenant(Struct, frozen=True, kw_only=True, rename="camel"):
    """One customer of the platform: a namespace, limits, a bill and an OpenAI-compatible endpoint of its own."""

    metadata: ObjectMeta
    spec: Annotated[TenantSpec, about("What the customer gets.")]
    status: Annotated[TenantStatus, about("What the operator saw and did. Written by the operator only.")] | None = None
