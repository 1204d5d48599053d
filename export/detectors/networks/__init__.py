"""Networks of detectors, and how they take their weights."""
