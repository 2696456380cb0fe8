"""What holds where neither Tenant nor tier says anything; each field's description names its default."""

from tenantry_operator.api.allowance import Budget, BudgetWindow, Key, Limits, OnExceeded, WhenUnavailable
from tenantry_operator.api.resources import ResourceLimits, ResourceRequests, Resources
from tenantry_operator.api.settings import (
    Architecture,
    Autoscaling,
    Capacity,
    DeletionPolicy,
    Exposure,
    Placement,
    Settings,
    Suspend,
)
from tenantry_operator.api.traffic import Models, Pricing, Routes, UnknownModel, UnknownRoute

#: Of a tenant and of a key, once an amount is given.
DEFAULT_BUDGET = Budget(window=BudgetWindow.MONTH, on_exceeded=OnExceeded.REFUSE)

DEFAULTS = Settings(
    owners=(),
    keys=(Key(name="default"),),
    limits=Limits(
        when_unavailable=WhenUnavailable.REFUSE,
        require_declared_max_tokens=False,
        max_body_size="20Mi",
        max_upload_size="512Mi",
    ),
    budget=DEFAULT_BUDGET,
    models=Models(allow=("*",), aliases={}),
    routes=Routes(allow=("*",), unknown=UnknownRoute.ALLOW),
    pricing=Pricing(rates={}, unknown_model=UnknownModel.CHARGE_DEFAULT),
    upstreams=(),
    resources=Resources(
        requests=ResourceRequests(cpu="100m", memory="96Mi"),
        limits=ResourceLimits(memory="256Mi"),
    ),
    autoscaling=Autoscaling(min_replicas=1, max_replicas=1, target_in_flight=100, idle_after="15m"),
    placement=Placement(capacity=Capacity.SPOT_PREFERRED, architectures=(Architecture.ARM64, Architecture.AMD64)),
    exposure=Exposure(hostnames=()),
    suspend=Suspend(reconcile=False, traffic=False),
    deletion_policy=DeletionPolicy.DELETE,
    deletion_protection=False,
)
