"""``glass-bench detector``: a detector of one view beside the script that its users run."""
