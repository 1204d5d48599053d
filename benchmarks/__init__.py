"""Measured against full-size PyTorch and against what would be used instead."""
