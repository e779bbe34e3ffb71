# Two commands for a fresh clone: `make sweep` runs the bundled study, `make test` proves that all works.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: sweep test lint test-slow storm broken-builds bench task-table lock clean

sweep: $(READY)
	@$(BIN)/sweep run $(ARGS)

# Three test processes for two cores: much of the time goes by waiting for processes and servers. The files go out in
# their own order, from the browser's long tests to the units, so that no process ends up alone with a long one.
test: $(READY) lint
	$(BIN)/python -m pytest -q -m "not slow" -n 3 --dist loadfile --no-loadscope-reorder

test-slow: $(READY)
	$(BIN)/python -m pytest -q -m slow --timeout 3600

# A long storm: a seeded adversary breaks what it can for ten minutes. SEED=… repeats one.
storm: $(READY)
	$(BIN)/python -m tests.storm $(if $(SEED),--seed $(SEED)) $(ARGS)

# Break a copy of the product in every listed way and see the named test notice.
broken-builds: $(READY)
	$(BIN)/python -m tests.broken_builds $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The lock holds exact versions. torch comes first and with its dependencies, which differ between CPU and CUDA
# builds; everything else is named in the lock, so that nothing has to be resolved.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; name another with make PYTHON=…" if sys.version_info < (3, 11) else 0)'
	@echo "making the environment in $(VENV) (once; a few minutes) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	@$(BIN)/python -m objectives.bundled
	@touch $(READY)

bench: $(READY)
	$(BIN)/python tests/benchmarks/study_store.py
	$(BIN)/python tests/benchmarks/execution_overhead.py
	$(BIN)/python tests/benchmarks/recording.py
	$(BIN)/python -m tests.benchmarks.verdict_simulation

# Run a small study of every task and write the README's table of them. DATA=… names a folder of published data sets.
task-table: $(READY)
	$(BIN)/python -m tests.benchmarks.tasks $(if $(DATA),--data $(DATA)) $(ARGS)

# Write the lock from what is installed now, after a deliberate upgrade.
lock:
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
