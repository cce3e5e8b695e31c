"""Real processes, killed, stopped and cut off from a seed, under load; then their history is held against the provider's ledger."""
