"""Readers of scan files, one a format: each by its format's own rule."""
