"""The service: one tenant's OpenAI-compatible endpoint, with its limits and its ledger."""
