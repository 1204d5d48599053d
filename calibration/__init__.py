"""From real images to ranges to INT8 graphs, and how their verdicts change. Needs no torch."""
