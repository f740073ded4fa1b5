"""Simulations as data: drawn in chunks, scaled, stored, and read from scan files."""
