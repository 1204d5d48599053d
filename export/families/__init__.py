"""Backbone families. Each is one module of this folder; :mod:`.registry` finds them."""
