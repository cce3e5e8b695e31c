"""Run a process."""
