"""The standard benchmark: cells, their references, the runner, its table and page."""
