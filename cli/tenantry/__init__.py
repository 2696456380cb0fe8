"""The ``tenantry`` command."""
