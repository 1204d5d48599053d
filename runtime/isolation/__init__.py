"""Processes of their own for what C libraries do with strangers' files, so that they may crash."""
