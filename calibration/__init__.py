"""Real images to ranges to INT8 graphs, and what that does to verdicts. Needs no torch."""
