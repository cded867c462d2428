"""Routes: which message belongs to which model, and the stored values of sensors."""
