"""A home of which no process may be left."""

from tests.jobs.conftest import home, make_manager, manager

__all__ = ["home", "make_manager", "manager"]
