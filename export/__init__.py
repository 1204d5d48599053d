"""Exports a trained PyTorch GLASS to a bundle. Needs torch; the runtime does not."""
