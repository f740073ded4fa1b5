"""Figures, tables and the one-file page that show what the diagnostics found."""
