"""What scaling takes: a thousand sleeping tenants on a bare control plane, and real pods on kind."""
