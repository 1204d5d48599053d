"""What a large collection costs: measured by the image, on one CPU, and multiplied."""
