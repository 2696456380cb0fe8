"""The status page: what the operator knows, read-only, for people. ``view`` and ``html`` are pure."""
