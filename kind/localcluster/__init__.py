"""The local Kubernetes cluster of this checkout: engine, node image, kind cluster, and a bare control plane for tests.

Only the standard library is imported here: this package runs before any virtual environment exists.
"""
