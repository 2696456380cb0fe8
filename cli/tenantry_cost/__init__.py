"""What running tenants costs on five of AWS's compute services: a model, dated prices, and three ways to show it."""
