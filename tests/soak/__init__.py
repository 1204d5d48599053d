"""Requests by the thousand at a real server, good ones among every kind of bad: ``python -m soak``."""
