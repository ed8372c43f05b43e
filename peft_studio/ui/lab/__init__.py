"""Experiments on the page and for programs: routes and named endpoints."""
