"""Which files are meant, and their bytes to RGB pixels."""
