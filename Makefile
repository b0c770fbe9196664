# Short names for `python3 run.py ...`, the benchmarks and the GPU record.
PYTHON ?= python3

.PHONY: build test demo lint bench gpu
build test demo lint:
	$(PYTHON) run.py $@
