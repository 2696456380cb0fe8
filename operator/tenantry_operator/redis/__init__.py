"""Redis, as far as it is the operator's: a user for each tenant, what a deleted one leaves, and what was spent."""
