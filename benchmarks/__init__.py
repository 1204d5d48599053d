"""The room for benchmarks against full-size PyTorch. Nothing lives here yet."""
