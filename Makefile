# Each target does its own set-up in .venv, once. Needs: make, g++ and Python 3.11 or later.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: demo test lint clean

demo: $(STAMP)
	$(BIN)/hzlm demo

test: $(STAMP)
	$(BIN)/pytest -m "not slow and not gpu"

# mypy cannot follow an editable install, so it reads a plain one made beside it.
lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --target build/installed .
	cd build/installed && ../../$(BIN)/mypy --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache -p hzlm

$(STAMP): setup.py pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "hzlm: no python3 found; install Python 3.11 or later, or run: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "hzlm: $(PYTHON) is $$("$(PYTHON)" -V 2>&1), but 3.11 or later is needed; run: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@command -v g++ > /dev/null || { echo "hzlm: g++ is missing (PyTorch and DeepSpeed compile extensions with it); on Debian: apt-get install g++" >&2; exit 1; }
	test -x $(BIN)/pip || "$(PYTHON)" -m venv --clear $(VENV)
	$(BIN)/pip install -c constraints.txt -e ".[train,data,dev]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
