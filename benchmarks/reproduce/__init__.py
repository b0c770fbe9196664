"""Published runs beside ours: ``python -m benchmarks.reproduce`` makes the table of the docs."""
