"""What one pod of a tenant needs and may use.

Every field is optional where a tier may give its default; see ``settings.py``.
"""

from typing import Annotated, ClassVar

from msgspec import Struct

from tenantry_operator.api.rules import Quantity, about, at_most, within
from tenantry_operator.api.units import CPU_RANGE, MEMORY_RANGE


class ResourceRequests(Struct, frozen=True, kw_only=True, rename="camel"):
    """What the scheduler sets aside for one pod."""

    cpu: Annotated[Quantity, about("CPU of one pod. Default: 100m.")] | None = None
    memory: Annotated[Quantity, about("Memory of one pod. Default: 96Mi.")] | None = None

    rules: ClassVar = (within("cpu", *CPU_RANGE), within("memory", *MEMORY_RANGE))


class ResourceLimits(Struct, frozen=True, kw_only=True, rename="camel"):
    """What one pod may use at most."""

    cpu: (
        Annotated[
            Quantity,
            about("Most CPU of one pod. Default: none, since a limit slows streams down long before a node is busy."),
        ]
        | None
    ) = None
    memory: Annotated[Quantity, about("Most memory of one pod. Default: 256Mi.")] | None = None

    rules: ClassVar = (within("cpu", *CPU_RANGE), within("memory", *MEMORY_RANGE))


class Resources(Struct, frozen=True, kw_only=True, rename="camel"):
    """What one pod needs."""

    requests: Annotated[ResourceRequests, about("What the scheduler sets aside for one pod.")] | None = None
    limits: Annotated[ResourceLimits, about("What one pod may use at most.")] | None = None

    rules: ClassVar = (
        at_most("requests", "limits", "cpu"),
        at_most("requests", "limits", "memory"),
    )
