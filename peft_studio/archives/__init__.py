"""Whole runs and adapters as files that go elsewhere and come back."""
