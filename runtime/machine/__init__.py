"""The machine under everything: CPUs, GPU, caches, signals, timings, errors."""
