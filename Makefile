# `make run` starts the broker; `make test` installs what the tests need and runs all of them.
VENV := .venv
PY := $(VENV)/bin/python
# The first of these that is fit makes the virtual environment, unless PYTHON says which one. The
# distribution's come first: they are built with profile-guided optimisation, and one compiled by
# hand (pyenv's default) makes the broker 30 % slower.
PYTHONS := /usr/bin/python3.11 /usr/bin/python3 python3.11 python3.12 python3.13 python3
FIT := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(or $(shell for p in $(PYTHONS); do $$p -c "$(FIT)" 2>&- && echo $$p && break; done),python3)

# All tests: two processes take the files in turn, in the order that tests/conftest.py gives them.
# One that dies is not replaced: its replacement would wait for ever (pytest-xdist 3.8).
PROCESSES ?= 2
TESTS := $(PY) -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder --max-worker-restart 0
PATIENT := $(PY) -m pytest -o faulthandler_timeout=14400

# The compiled form, once `make compiled` has been said: it is brought up to date by all that runs it.
COMPILED := $(wildcard $(VENV)/.compiled)
SOURCES := $(shell find shared services -name '*.py') hatch_build.py
REMOVE_LIBRARIES = rm -f $(VENV)/.compiled; find shared services -name '*.so' -delete
HEADERS = $(PY) -c "import sysconfig; print(sysconfig.get_path('include'))"
VERSION = $(PY) -c "import sysconfig; print(sysconfig.get_python_version())"

# What of the integration runs on the compiled form too: every client, what survives kill -9, and
# kept sessions on two edges; each on SQLite and Kafka. The order is that of the longest first.
COMPILED_TESTS := $(addprefix tests/,simulation unit contract conformance compiled) \
	$(addprefix tests/integration/test_,kill.py kafka_kept_edges.py interop.py)

.PHONY: run setup compiled pure postgres kafka test test-faults test-lake test-compiled tools check lint \
	types layers format bench lock build clean

run: $(VENV)/.run $(COMPILED)
	$(VENV)/bin/monstermq $(ARGS)

setup: $(VENV)/.dev

compiled: $(VENV)/.compiled

pure:
	$(REMOVE_LIBRARIES)

postgres: setup
	scripts/install-test-tools postgresql
	@$(PY) -m tests.support.try_postgres

kafka: setup
	scripts/install-test-tools kafka
	@$(PY) -m tests.support.try_kafka

test: setup check tools $(COMPILED)
	$(TESTS)

# Its tests take longer than the ten minutes after which `make test` takes one for hung.
test-faults: setup tools $(COMPILED)
	MONSTERMQ_FAULT_ROUNDS=200 $(PATIENT) tests/integration -k "kill or away_for_long"
	MONSTERMQ_SIM_SEEDS=10000 $(PATIENT) tests/simulation/test_kept_sessions.py

test-lake: setup $(VENV)/.lake $(COMPILED)
	scripts/install-test-tools lake
	$(PY) -m pytest tests/lake

# It leaves the form that was there: pure Python, unless `make compiled` had been said.
test-compiled: setup tools compiled
	MONSTERMQ_SIM_SEEDS=20 MONSTERMQ_FAULT_ROUNDS=4 $(TESTS) $(COMPILED_TESTS); status=$$?; \
	$(if $(COMPILED),,$(REMOVE_LIBRARIES);) $(VENV)/bin/monstermq --version; exit $$status

tools:
	scripts/install-test-tools

check: lint types layers

lint: $(VENV)/.dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .

types: $(VENV)/.dev
	$(VENV)/bin/mypy

layers: $(VENV)/.dev
	$(VENV)/bin/lint-imports

format: $(VENV)/.dev
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

# Both forms of the broker, and it leaves the form that was there.
bench: setup tools
	@if command -v gcc; then $(MAKE) compiled; else echo "There is no gcc: the compiled form has no figures"; fi
	MONSTERMQ_BENCH=1 $(PY) -m tests.bench; status=$$?; $(if $(COMPILED),,$(REMOVE_LIBRARIES);) exit $$status

lock: $(VENV)/.dev
	$(VENV)/bin/pip -q install uv
	$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --all-extras --group dev --group lake \
		--no-header --no-annotate --no-emit-index-url pyproject.toml -o constraints.txt

build: $(VENV)/.dev
	$(VENV)/bin/pip -q install build
	$(PY) -m build

clean: pure
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/.pip:
	@$(PYTHON) -c "$(FIT)" || { echo "$(PYTHON) is not Python 3.11 or newer with venv and ensurepip:" \
		"apt install python3.11-venv, or say which one is: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(if $(wildcard $(VENV)/pyvenv.cfg),--clear) $(VENV) # another Python's cannot be used
	$(VENV)/bin/pip -q install "pip>=25.1"
	touch $@

$(VENV)/.run: $(VENV)/.pip pyproject.toml constraints.txt
	$(VENV)/bin/pip -q install -c constraints.txt -e '.[standalone]'
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(VENV)/bin/pip -q install -c constraints.txt -e '.[standalone]' --group dev
	touch $@

$(VENV)/.lake: $(VENV)/.dev
	$(VENV)/bin/pip -q install -c constraints.txt --group lake
	touch $@

$(VENV)/.compiled: $(VENV)/.dev $(SOURCES)
	@command -v gcc >/dev/null && test -f "$$($(HEADERS))/Python.h" || { echo "The compiled form needs gcc" \
		"and Python's headers: apt install gcc libc6-dev python$$($(VERSION))-dev" >&2; exit 1; }
	touch $@.begun # what is edited meanwhile is newer, and compiled the next time
	MONSTERMQ_COMPILED=1 $(VENV)/bin/hatchling build -t wheel:editable --hooks-only
	mv $@.begun $@
