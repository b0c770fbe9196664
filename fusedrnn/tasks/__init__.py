"""Sequence tasks: each a small model on the layers, its data and its metric."""
