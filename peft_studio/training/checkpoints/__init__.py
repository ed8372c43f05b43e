"""Checkpoints: what a run goes on from, exactly where it was."""
