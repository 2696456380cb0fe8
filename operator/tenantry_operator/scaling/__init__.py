"""Capacity follows requests in flight, down to zero: the metrics that HPAs read, and sleep and wake."""
