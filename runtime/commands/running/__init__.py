"""What glass-run does: its options, its output, its run, and its report."""
