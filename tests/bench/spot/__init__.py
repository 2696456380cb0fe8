"""Interruptions of Spot nodes under load: what clients notice, beside plain `kubectl drain`."""
