# Two commands do everything: `make demo` and `make test`. Both install the recorded versions into .venv first.
PYTHON ?= python3
BIN := .venv/bin
PARAPHINA_FUZZ_S ?= 1800
PARAPHINA_FUZZ_SEED ?= $(shell date +%s)
PARAPHINA_SHADOW ?= 3h
PARAPHINA_SHADOW_REPORT ?= reports/shadow-$(shell date +%Y%m%dT%H%M%S)

.PHONY: demo test test-operate test-versions update bench lint unit coverage integration docs clean
.PHONY: mutants screenshots soak soak-alerts soak-faults soak-fuzz soak-image soak-shadow soak-updates
.PHONY: run-installed test-installed operate-installed

demo: run-installed
	@$(BIN)/paraphina-supervisor start --sim

# Three files of tests at a time, for most of them wait, the long ones of whole systems first.
test: test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -m "not soak and not operate" --numprocesses 3 --dist loadfile --no-loadscope-reorder \
		--max-worker-restart 0

# The page in a browser, alerts in a Prometheus, what is in etc/ under its validators. Tests skip, and say so, where a
# program is missing: requirements/debian.sh installs them.
test-operate: operate-installed
	$(BIN)/pytest -m operate --numprocesses 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 tests/operate

# The lowest and the newest versions, and every other Python on this machine, each in an environment below build/.
test-versions:
	@$(PYTHON) requirements/versions.py

# Record the newest versions (requirements/), and see whether the suite accepts them.
RECORD = $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --upgrade --generate-hashes \
	--no-annotate --custom-compile-command 'make update' --group build pyproject.toml
update: test-installed
	$(RECORD) --extra test --group record --output-file requirements/test.txt
	$(RECORD) --constraints requirements/test.txt --output-file requirements/run.txt
	$(RECORD) --extra operate --constraints requirements/test.txt --output-file requirements/operate.txt
	$(RECORD) --extra test --resolution lowest-direct --output-file requirements/lowest.txt
	$(MAKE) test
	$(MAKE) test-versions

# Pictures of the status page for its documentation, from a real run: docs/images/page-*.png.
screenshots: operate-installed
	PYTHONPATH=.:tests/support $(BIN)/python tests/operate/screenshots.py

bench: test-installed
	$(BIN)/python -m bench $(BENCH)

lint: test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: test-installed
	$(BIN)/pytest -m "not integration and not soak and not operate"

# Of the unit tests; child processes are not counted.
coverage: test-installed
	$(BIN)/pytest -m "not integration and not soak and not operate" --cov --cov-report=term:skip-covered

# Changes in the core modules that no unit test notices; drawn with a fixed seed.
mutants: test-installed
	$(BIN)/python tests/support/mutants.py

integration: test-installed
	$(BIN)/pytest -m "integration and not operate"

# Long runs; PARAPHINA_SOAK_S says how many seconds each may take (an hour).
soak: test-installed
	$(BIN)/pytest -m soak tests/soak

# The alerts with their real times, which `make test-operate` divides by ten: about 16 minutes.
soak-alerts: operate-installed
	PARAPHINA_ALERTS_FACTOR=1 $(BIN)/pytest -m operate tests/operate/test_alerts.py

# An hour of random faults under the eyes of consumers who know the truth.
soak-faults: test-installed
	$(BIN)/pytest -m soak tests/soak/test_soak.py -k random_faults

# A million updates a venue with random faults, and the time from a gap to a consumer; figures are printed.
soak-updates: test-installed
	$(BIN)/pytest -m soak tests/soak/test_updates.py

# The fuzzer for as long as PARAPHINA_FUZZ_S says, from a seed that is shown.
soak-fuzz: test-installed
	PARAPHINA_FUZZ_S=$(PARAPHINA_FUZZ_S) PARAPHINA_FUZZ_SEED=$(PARAPHINA_FUZZ_SEED) $(BIN)/pytest tests/fuzz

# The container image: built by buildah on a base of Debian packages, and the program in it as PID 1.
soak-image: operate-installed
	$(BIN)/pytest -m soak tests/soak/test_image.py

# Hours on simulated venues with real limits and random faults; the report goes into a directory of its own.
soak-shadow: test-installed
	PYTHONPATH=.:tests/support $(BIN)/python -m shadowed --duration $(PARAPHINA_SHADOW) --report $(PARAPHINA_SHADOW_REPORT)

# Always asked, for only the environment itself can tell whether it is finished and still works.
run-installed test-installed operate-installed: %-installed:
	@$(PYTHON) requirements/install.py $*

docs: run-installed
	$(BIN)/paraphina-supervisor schema > docs/schema/events.schema.json
	$(BIN)/python -c "from supervisor.pages import states; print(states(), end='')" > docs/states.md
	$(BIN)/python -c "from supervisor.pages import metrics; print(metrics(), end='')" > docs/metrics.md
	$(BIN)/python -m workers.pages docs/venues

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage dist build
