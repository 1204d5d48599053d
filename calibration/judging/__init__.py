"""How a changed bundle is judged against the FP32 one that it came from."""
