"""``glass-bench int8``: the INT8 of ``glass-quantize`` beside what would be used instead."""
