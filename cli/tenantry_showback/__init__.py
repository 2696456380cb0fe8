"""Show-back: what each tenant costs, so that tenants, idle and overhead add up to the bill. Arithmetic only."""
