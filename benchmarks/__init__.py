"""What fusedrnn's speed is, measured.

``python -m benchmarks.peers`` runs fusedrnn beside its peers and writes tables, JSON, Markdown and
plots; ``pytest benchmarks --benchmark-enable`` tracks one's own change; ``docs/benchmarks.md`` says
how to read both.
"""
