"""The model files: located, opened, tried, asked."""
