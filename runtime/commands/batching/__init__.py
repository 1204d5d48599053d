"""The subcommands of ``glass-batch``."""
