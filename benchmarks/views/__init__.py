"""``glass-bench views`` and ``decoders``: from image files to views."""
