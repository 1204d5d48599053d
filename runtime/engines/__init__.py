"""What executes graphs: one module or folder for each engine, found through the registry."""
