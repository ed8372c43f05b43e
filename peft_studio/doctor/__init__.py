"""What looks wrong with a run, with the evidence for it."""
