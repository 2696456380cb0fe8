"""The operator: turns each Tenant into a namespace, a policy, keys and a running endpoint."""
