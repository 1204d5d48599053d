"""``glass-eval``: what bundles are worth on labelled images."""
