"""Bundles made from bundles."""
