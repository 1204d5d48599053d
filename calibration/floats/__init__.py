"""FP16 and BF16 graphs."""
