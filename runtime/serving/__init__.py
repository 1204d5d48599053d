"""One bundle behind HTTP."""
