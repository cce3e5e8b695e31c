"""Measures homing beside its peers, in one run, on this machine: ratios count, absolutes drift."""
