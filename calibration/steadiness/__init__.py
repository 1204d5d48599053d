"""How many crops a verdict needs, and what a score is worth: ``glass-calibrate``."""
