"""Where images come from and where records go: what each costs, and what a cluster does."""
