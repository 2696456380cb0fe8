"""The ledger: one event per admitted request."""
