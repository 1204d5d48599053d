"""The server's description in OpenAPI."""
