"""Where workers run: on this machine, forked from the warm server, or on the nodes of a Ray cluster."""
