"""Tenant and TenantTier: models, units, conditions and reasons. No I/O, no clock.

The CRDs in ``crds/`` are generated from these models by ``python -m tenantry_operator.api.crd``.
"""
