"""What the operator costs: many tenants on a real API server with real controllers; KWOK plays their pods."""
