"""The detector and its engine room: images in, verdicts out."""
