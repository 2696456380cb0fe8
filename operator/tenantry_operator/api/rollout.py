"""How a change of a tier reaches its Tenants: what can be said about it, and what there is to see of it.

Names are those of StatefulSets, which keep revisions, too: ``updateRevision`` is on its way, ``currentRevision`` is
the last that reached everybody. https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/stateful-set-v1/
"""

from datetime import datetime
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from tenantry_operator.api.conditions import Condition
from tenantry_operator.api.rules import DNS_LABEL, Rule, about, duration, number, sequence, text


def revision_name(description: str) -> Meta:
    """A string field that names a revision of a tier."""
    remedy = "must be the name of a revision, as `kubectl get controllerrevisions -A -l tenantry.dev/tier` prints it"
    return text(description, min_length=1, max_length=63, pattern=DNS_LABEL, remedy=remedy)


class Rollout(Struct, frozen=True, kw_only=True, rename="camel"):
    """How a new revision (the tier's defaults, the tenants' image, the tenant chart) reaches the tier's Tenants."""

    waves: (
        Annotated[
            tuple[Annotated[int, number("Percent of the tier's Tenants, rounded up.", ge=1, le=100)], ...],
            sequence(
                "How many Tenants may be on the new revision, in percent, wave after wave. [100] is all at once."
                " Default: [1, 10, 50, 100].",
                min_length=1,
                max_length=10,
            ),
        ]
        | None
    ) = None
    pause: (
        Annotated[
            str,
            duration("How long all that were moved must have been Ready before the next wave begins. Default: 5m."),
        ]
        | None
    ) = None
    progress_deadline: (
        Annotated[
            str,
            duration("A Tenant that is not Ready so long after its move counts as failed. Default: 10m."),
        ]
        | None
    ) = None
    max_unready: (
        Annotated[
            int,
            number(
                "So many moved Tenants may be unready; one more halts the roll-out until they are Ready again or the"
                " tier is changed. Default: 0.",
                ge=0,
                le=100_000,
            ),
        ]
        | None
    ) = None
    paused: Annotated[bool, about("While true nobody is moved, forward or back. Default: false.")] | None = None
    rollback_to: (
        Annotated[
            str,
            revision_name(
                "Name of a former revision that holds instead of this spec, at once and for all, until this is taken"
                " away again. Default: none."
            ),
        ]
        | None
    ) = None

    rules: ClassVar = (
        Rule(
            "!has(self.waves) || self.waves[self.waves.size() - 1] == 100",
            "must end with 100, or some Tenants would never get the new revision",
            ".waves",
        ),
        Rule(
            "!has(self.waves) || (self.waves.isSorted() && self.waves.all(a, self.waves.exists_one(b, a == b)))",
            "each wave must be greater than the one before it",
            ".waves",
        ),
    )


class TierStatus(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    observed_generation: Annotated[
        int, number("The metadata.generation that this status is about.", ge=0, le=2**53)
    ] = 0
    conditions: Annotated[
        tuple[Condition, ...],
        sequence(
            "Ready (every Tenant is on updateRevision), Reconciling (a roll-out is on its way), Stalled (halted).",
            max_length=16,
            keys=("type",),
        ),
    ] = ()
    update_revision: Annotated[
        str, text("The revision that Tenants are moved to: name of a ControllerRevision.", max_length=253)
    ] = ""
    current_revision: Annotated[str, text("The revision that last reached every Tenant.", max_length=253)] = ""
    wave: Annotated[int, number("The wave that has begun, counted from 1.", ge=0, le=10)] = 0
    tenants: Annotated[int, number("Tenants of the tier that take part in roll-outs.", ge=0, le=2**31 - 1)] = 0
    updated: Annotated[int, number("Those of them that are on updateRevision.", ge=0, le=2**31 - 1)] = 0
    ready: Annotated[int, number("Those of them that are Ready, on whichever revision.", ge=0, le=2**31 - 1)] = 0


class Standing(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Where a Tenant stands in the roll-outs of its tier."""

    revision: Annotated[str, text("The tier revision that holds for the Tenant.", max_length=253)]
    moved_at: (
        Annotated[datetime, about("When a wave moved it there; absent if it began on it or chose it itself.")] | None
    ) = None
    generation: Annotated[
        int, number("metadata.generation at the move; what the Tenant changes later is its own affair.", ge=0, le=2**53)
    ] = 0
    counted: Annotated[bool, about("Whether it was fit at the move, so that its failure halts the roll-out.")] = False
