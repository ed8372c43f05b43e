"""Figures before a run: parameters, memory, preview."""
