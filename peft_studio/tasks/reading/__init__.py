"""Data files, read once in a process of their own, and what is kept of them for everybody else."""
