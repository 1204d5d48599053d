"""Detectors by family: what their checkpoints hold, and how their images become views."""
