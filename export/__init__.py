"""A trained PyTorch GLASS becomes a bundle. Needs torch; the runtime does not."""
