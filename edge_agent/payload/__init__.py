"""Bytes to checked values: formats, and the features in them."""
