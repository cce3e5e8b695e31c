"""What carries messages between roles."""
