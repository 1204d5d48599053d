"""The Open Inference Protocol: image files in, scores and records out."""
