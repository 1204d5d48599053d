"""The room for calibration: real images to ranges to INT8 graphs. Nothing lives here yet."""
