"""Writes: claim a namespace, issue keys, apply and prune a tenant's objects, refresh its pods, delete it."""
