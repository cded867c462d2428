"""Measurements side by side with what a user would otherwise pick; run by scripts/bench."""
