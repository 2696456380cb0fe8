"""What shared limits cost, and that they never let through too much."""
