"""``glass-bench run``: from image files to P(fake), side by side."""
