"""Diagnostics: arrays in, named numbers with a stated test out, one file each."""
