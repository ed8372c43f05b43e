"""Runs as folders: their events, their status, and the manager that starts and stops their workers."""
