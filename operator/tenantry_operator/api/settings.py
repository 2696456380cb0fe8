"""What can be set for a tenant, by its tier as a default or by the Tenant itself: the same fields in both.

Every field is optional, so that "not said" can be told from "said": see ``resolve.py`` for who wins.
Lists and strings have bounds throughout; the API server estimates the cost of CEL rules by them.
"""

import json
from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import Struct

from tenantry_operator.api.allowance import Budget, Key, Limits
from tenantry_operator.api.resources import Resources
from tenantry_operator.api.rules import DNS_LABEL, DNS_NAME, Rule, about, duration, number, reserved, sequence, text
from tenantry_operator.api.traffic import Keeping, Models, Pricing, Routes, Upstream

#: A host name as the Gateway API takes it, and no address: its last label begins with a letter.
_PIECE = r"([a-z0-9]|\{tenant\})"
HOSTNAME = rf"{_PIECE}(([-a-z0-9]|\{{tenant\}})*{_PIECE})?(\.{DNS_LABEL})*\.[a-z]([-a-z0-9]*[a-z0-9])?"


class OwnerKind(StrEnum):
    """Who an owner is, in the words of RBAC."""

    USER = "User"
    GROUP = "Group"
    SERVICE_ACCOUNT = "ServiceAccount"


class Capacity(StrEnum):
    """On which kind of nodes the pods run."""

    SPOT = "Spot"
    SPOT_PREFERRED = "SpotPreferred"
    ON_DEMAND = "OnDemand"


class Architecture(StrEnum):
    """A value of the node label ``kubernetes.io/arch``."""

    ARM64 = "arm64"
    AMD64 = "amd64"


class DeletionPolicy(StrEnum):
    """What becomes of the namespace when its Tenant is deleted."""

    DELETE = "Delete"
    RETAIN = "Retain"


class Owner(Struct, frozen=True, kw_only=True, rename="camel"):
    """Somebody who may look into the tenant's namespace."""

    kind: Annotated[OwnerKind, about("User, Group or ServiceAccount.")]
    name: Annotated[str, text("The name that the API server knows the owner by.", min_length=1, max_length=253)]
    namespace: Annotated[
        str,
        text(
            "The namespace of a ServiceAccount; empty for users and groups.",
            max_length=63,
            pattern=f"({DNS_LABEL})?",
            remedy="must be the name of a namespace, as `kubectl get namespaces` prints it",
        ),
    ] = ""

    rules: ClassVar = (
        Rule(
            "(self.kind == 'ServiceAccount') == (has(self.namespace) && self.namespace != '')",
            "is required when kind is ServiceAccount, and has to be left out for User and Group",
            ".namespace",
        ),
        Rule(
            f"self.kind != 'ServiceAccount' || self.name.matches({json.dumps(f'^(?:{DNS_NAME})$')})",
            "must be the name of a ServiceAccount, as `kubectl get serviceaccounts` prints it",
            ".name",
        ),
    )


class Autoscaling(Struct, frozen=True, kw_only=True, rename="camel"):
    """How many pods there are."""

    min_replicas: (
        Annotated[
            int,
            number(
                "Fewest pods. 0: none while nobody asks; the first request then waits for one. Default: 1.",
                ge=0,
                le=500,
            ),
        ]
        | None
    ) = None
    max_replicas: Annotated[int, number("Most pods. Default: 1.", ge=1, le=500)] | None = None
    target_in_flight: (
        Annotated[
            int,
            number(
                "Requests in flight per pod that scaling aims at. Default: 100.",
                ge=1,
                le=100_000,
            ),
        ]
        | None
    ) = None
    idle_after: (
        Annotated[
            str,
            duration(
                reserved("without a request for so long, a tenant with minReplicas 0 goes to sleep. Default: 15m.")
            ),
        ]
        | None
    ) = None

    rules: ClassVar = (
        Rule(
            "!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
            "must not be greater than maxReplicas: lower the one or raise the other",
            ".minReplicas",
        ),
    )


class Placement(Struct, frozen=True, kw_only=True, rename="camel"):
    """On which nodes the pods run."""

    capacity: (
        Annotated[
            Capacity,
            about("Spot nodes only, Spot where there are any, or on-demand nodes only. Default: SpotPreferred."),
        ]
        | None
    ) = None
    architectures: (
        Annotated[
            tuple[Architecture, ...],
            sequence("Node architectures that will do. Default: any.", min_length=1, max_length=2, unique=True),
        ]
        | None
    ) = None


class Exposure(Struct, frozen=True, kw_only=True, rename="camel"):
    """Where the endpoint can be reached, besides inside the cluster."""

    hostnames: (
        Annotated[
            tuple[
                Annotated[
                    str,
                    text(
                        "A host name; {tenant} stands for the tenant's name.",
                        min_length=1,
                        max_length=253,
                        pattern=HOSTNAME,
                        remedy='must be a host name such as "acme.api.example.com" or "{tenant}.api.example.com"',
                    ),
                ],
                ...,
            ],
            sequence(
                "Host names that the endpoint answers to, where the platform has a gateway. One that another Tenant had"
                " first stays with that one. Default: none.",
                max_length=16,
                unique=True,
            ),
        ]
        | None
    ) = None
    node_port: (
        Annotated[
            int,
            number(
                "Also answer on this port of every node (for clusters without a gateway). Default: no.",
                ge=30000,
                le=32767,
            ),
        ]
        | None
    ) = None


class Suspend(Struct, frozen=True, kw_only=True, rename="camel"):
    """Two different things: the operator's hands off, and no traffic."""

    reconcile: (
        Annotated[bool, about("The operator leaves everything as it is. Deleting still cleans up. Default: false.")]
        | None
    ) = None
    traffic: Annotated[bool, about("Run no pods and keep everything else. Default: false.")] | None = None


class Settings(Struct, frozen=True, kw_only=True, rename="camel"):
    """The fields that a Tenant may set and a TenantTier may give defaults for."""

    owners: (
        Annotated[
            tuple[Owner, ...],
            sequence(
                "Who may look into the namespace and read its keys. Default: nobody.",
                max_length=32,
                keys=("kind", "name", "namespace"),
            ),
        ]
        | None
    ) = None
    keys: (
        Annotated[
            tuple[Key, ...],
            sequence(
                "API keys to issue, each in a Secret of its own. Default: one, named default.",
                max_length=32,
                keys=("name",),
            ),
        ]
        | None
    ) = None
    limits: Annotated[Limits, about("How much may be asked for.")] | None = None
    budget: Annotated[Budget, about("How much may be spent.")] | None = None
    models: Annotated[Models, about("Which models may be asked for, and under which names.")] | None = None
    routes: Annotated[Routes, about("Which routes of the API may be called.")] | None = None
    pricing: Annotated[Pricing, about("What tokens cost, where the platform's price table does not say.")] | None = None
    cache: (
        Annotated[
            Keeping,
            about(
                "Give the same answer to the same question again, where it would be the same (embeddings; chats with"
                " temperature 0 or a seed). Default: no."
            ),
        ]
        | None
    ) = None
    idempotency: (
        Annotated[
            Keeping,
            about("Answer a request that comes again with the same Idempotency-Key again, paid once. Default: no."),
        ]
        | None
    ) = None
    upstreams: (
        Annotated[
            tuple[Upstream, ...],
            sequence("Where requests go. At least one is needed, here or in the tier.", max_length=16, keys=("name",)),
        ]
        | None
    ) = None
    resources: Annotated[Resources, about("What one pod needs.")] | None = None
    autoscaling: Annotated[Autoscaling, about("How many pods there are.")] | None = None
    placement: Annotated[Placement, about("On which nodes the pods run.")] | None = None
    exposure: Annotated[Exposure, about("Where the endpoint can be reached, besides inside the cluster.")] | None = None
    suspend: Annotated[Suspend, about("Hold the operator, the traffic, or both.")] | None = None
    deletion_policy: (
        Annotated[
            DeletionPolicy,
            about("Delete the namespace with the Tenant, or Retain it with all that is in it. Default: Delete."),
        ]
        | None
    ) = None
    deletion_protection: (
        Annotated[bool, about("While true the API server refuses to delete the Tenant. Default: false.")] | None
    ) = None
