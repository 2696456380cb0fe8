"""Nodes that go away: what is heard of them, and how tenants' pods leave them without a cut stream."""
