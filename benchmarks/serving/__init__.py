"""What serving costs and gains: glass-serve, the straightforward server, and glass-run."""
