"""What a model is on disk: manifest, graphs, reference views."""
