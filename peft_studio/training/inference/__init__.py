"""Answers of base models and adapters."""
