"""Damaged files by the thousand, each in a process that may crash: ``python -m fuzz``."""
