"""Facts and histories as arrays."""
