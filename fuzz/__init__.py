"""Bytes that nobody has thought of, for everything here that reads bytes of others: `make fuzz`."""
