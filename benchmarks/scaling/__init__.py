"""``glass-bench scaling``: what an image costs."""
