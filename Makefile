# make eval  - the main job on the shipped checkpoint;  make test  - every test that needs no GPU and no training stack
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
CHECKPOINT := fixtures/arith-qwen2
STAMP := $(VENV)/.installed

.PHONY: eval test unit bench lint setup clean

setup: $(STAMP)

# torchao, an oracle of the tests, lies beside the environment: inside it, transformers would import it at every start
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(VENV)/oracles torchao==0.18.0
	touch $@

eval: setup
	$(BIN)/harness eval $(CHECKPOINT) --task arith --out runs/arith-qwen2
	$(BIN)/harness gate runs/arith-qwen2 --baseline arith/arith-qwen2 --margin 0.03

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -p no:benchmark -m "not slow and not thorough and not bench" suites

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
