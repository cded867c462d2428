"""Settings: their definitions, loading, and error messages."""
