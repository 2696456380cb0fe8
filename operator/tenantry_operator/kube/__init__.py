"""A small asyncio client for the Kubernetes API.

It knows HTTP, authentication, server-side apply, preconditions, Leases and Events, and nothing about tenants.
"""
