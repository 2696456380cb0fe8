"""``tenantry showback``: what tenants cost over time, hour by hour, served in OpenCost's form and as FOCUS rows."""
