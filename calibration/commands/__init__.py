"""Command lines of calibration, and what the export's has in common with them."""
