"""Which message belongs to what, and what is remembered of a sensor."""
