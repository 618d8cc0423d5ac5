# Two commands do everything: `make demo` and `make test`. Both install into .venv first.
PYTHON ?= python3
BIN := .venv/bin
PARAPHINA_FUZZ_S ?= 1800
PARAPHINA_FUZZ_SEED ?= $(shell date +%s)
PARAPHINA_SHADOW ?= 3h
PARAPHINA_SHADOW_REPORT ?= reports/shadow-$(shell date +%Y%m%dT%H%M%S)

.PHONY: demo test bench lint unit coverage integration soak soak-faults soak-fuzz soak-shadow soak-updates docs clean

demo: .venv/installed
	@$(BIN)/paraphina-supervisor start --sim

# Three files of tests at a time, for most of them wait, the long ones of whole systems first.
test: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -m "not soak" --numprocesses 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

bench: .venv/benched
	$(BIN)/python -m bench $(BENCH)

lint: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: .venv/tested
	$(BIN)/pytest -m "not integration and not soak"

# Of the unit tests; child processes are not counted.
coverage: .venv/tested
	$(BIN)/pytest -m "not integration and not soak" --cov --cov-report=term:skip-covered

integration: .venv/tested
	$(BIN)/pytest -m integration

# Long runs; PARAPHINA_SOAK_S says how many seconds each may take (an hour).
soak: .venv/tested
	$(BIN)/pytest -m soak tests/soak

# An hour of random faults under the eyes of consumers who know the truth.
soak-faults: .venv/tested
	$(BIN)/pytest -m soak tests/soak/test_soak.py -k random_faults

# A million updates a venue with random faults, and the time from a gap to a consumer; figures are printed.
soak-updates: .venv/tested
	$(BIN)/pytest -m soak tests/soak/test_updates.py

# The fuzzer for as long as PARAPHINA_FUZZ_S says, from a seed that is shown.
soak-fuzz: .venv/tested
	PARAPHINA_FUZZ_S=$(PARAPHINA_FUZZ_S) PARAPHINA_FUZZ_SEED=$(PARAPHINA_FUZZ_SEED) $(BIN)/pytest tests/fuzz


# Hours on simulated venues with real limits and random faults; the report goes into a directory of its own.
soak-shadow: .venv/tested
	PYTHONPATH=.:tests/support $(BIN)/python -m shadowed --duration $(PARAPHINA_SHADOW) --report $(PARAPHINA_SHADOW_REPORT)

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/tested: .venv/installed pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

.venv/benched: .venv/installed pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@touch $@

docs: .venv/installed
	$(BIN)/paraphina-supervisor schema > docs/schema/events.schema.json
	$(BIN)/python -c "from supervisor.machine import page; print(page(), end='')" > docs/states.md
	$(BIN)/python -m workers.pages docs/venues

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage dist build
