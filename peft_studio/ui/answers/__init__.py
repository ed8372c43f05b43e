"""Answers on the page: side by side, and what more can be asked of them."""
