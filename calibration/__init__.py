"""From a bundle and real images to a faster bundle, judged against the first. Needs no torch."""
