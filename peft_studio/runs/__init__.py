"""A run is a folder: its files, events, status, queue and index."""
