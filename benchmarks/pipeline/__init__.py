"""``glass-bench pipeline``: the whole against its two halves."""
