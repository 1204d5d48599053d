"""``glass-bench engines``: the local backbone, time per crop."""
