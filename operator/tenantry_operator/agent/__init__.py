"""``tenantry agent``: one on each node, where there is no queue: what instance metadata says goes onto the Node."""
