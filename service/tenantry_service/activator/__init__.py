"""``tenantry activator``: stands in for tenants that sleep, wakes them up for good requests, and passes those on."""
