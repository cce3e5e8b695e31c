"""Imagine the whole system, one seed at a time."""
