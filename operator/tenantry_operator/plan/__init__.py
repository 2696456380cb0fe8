"""What should be, from what is: pure functions from a Tenant, its tier and the observed objects. No I/O, no clock."""
