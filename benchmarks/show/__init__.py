"""``glass-bench show``: reports drawn again, machines compared."""
