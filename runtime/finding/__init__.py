"""Which files are images: named, found in folders, or listed."""
