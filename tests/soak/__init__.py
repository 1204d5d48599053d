"""Requests by the thousand, good ones among every kind of bad: ``python -m soak``."""
