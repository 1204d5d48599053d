"""Images to RGB pixels: their bytes, headers and decoders."""
