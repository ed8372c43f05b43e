"""Clients of the processes beside the web process: warm server, engine, fetches from the Hub."""
