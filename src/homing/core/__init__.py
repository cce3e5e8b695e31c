"""The machines: pure, with time as an argument."""
