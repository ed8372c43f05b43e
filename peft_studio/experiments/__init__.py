"""Experiments: several runs as one question, with a rule of fairness and an answer with its uncertainty."""
