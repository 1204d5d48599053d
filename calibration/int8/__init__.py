"""INT8 graphs."""
