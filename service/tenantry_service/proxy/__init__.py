"""The hot path: a sans-IO exchange per request, and the sockets around it."""
