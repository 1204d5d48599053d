"""RGB pixels to what a model sees: placements, resizing, batches of views."""
