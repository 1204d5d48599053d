"""Judging over HTTP, for programs and for people."""
