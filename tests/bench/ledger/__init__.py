"""The ledger writer's speed: events per second from Redis to PostgreSQL, and what watching many idle streams costs."""
