"""``tenantry ledger``: moves usage events from the tenants' Redis streams to PostgreSQL."""
