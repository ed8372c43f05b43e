"""Where workers run: the interface, and the local executor that forks them from the warm server."""
