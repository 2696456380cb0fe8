"""What tenants have used, read from the ledger: on the terminal, as CSV, or as a FOCUS 1.2 dataset."""
