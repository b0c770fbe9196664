# Short names for `python3 run.py ...`, the benchmarks and the GPU record.
PYTHON ?= python3

.PHONY: build test demo lint oldest bench reproduce gpu
build test demo lint oldest:
	$(PYTHON) run.py $@

# PART=build|tests|sanitize|bench runs one part; ARGS go to it (ARGS=--short for the short benchmark).
PART ?= all
gpu:
	$(PYTHON) benchmarks/gpu.py --part $(PART) $(ARGS)

# The benchmark beside the peers that are installed, in its short form (two minutes); ARGS go to it (ARGS=--full).
bench:
	$(PYTHON) run.py build
	.venv/bin/python -m benchmarks.peers $(ARGS)

# Runs of the literature beside ours, and the page docs/reproduced.md (two hours); ARGS choose tables and rows.
reproduce:
	$(PYTHON) run.py build
	.venv/bin/python -m benchmarks.reproduce $(ARGS)
