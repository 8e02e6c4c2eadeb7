# One word per chore. `make demo` and `make test` need nothing but Python 3.10 to 3.13 and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all check format install clean

demo: install  ## pre-train, evaluate and report on embedded data; resumes, skips what is done
	$(BIN)/micl-bench demo --workdir work/demo

# One process per core, one thread per process: tensors are too small here for threads to pay.
test: install  ## the test suite, without the tests that take minutes by themselves
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadscope -m "not long"

test-all: install  ## every test there is
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadscope

check: install  ## formatter, linter, types; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install  ## format, and fix what the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: $(VENV)/installed

# The stamp is written last: an interrupted install starts over. pip compiles on one core, a minute of
# it; a few files of packages' own tests are no valid Python, which pip ignores too.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --no-compile --editable '.[all,dev]'
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	touch $@

clean:  ## remove the environment and everything the demo made
	rm -rf $(VENV) work
