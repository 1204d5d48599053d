"""Object storage: what lies there, how it is read, and how results get there whole."""
