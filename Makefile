# `make demo`, `make up` and `make test` set up all they need: Python 3.11 or newer and make are enough.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
GATEWAY ?= sandbox

# pytest keeps the tests as it has rewritten them, which saves a tenth of the next run.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo up test test-stack test-all repeat-test scale-test storm-test latency-test soak load-test lint types build wheel-test bench clean

demo: .venv/.installed
	$(BIN)/python -m deployments.demo --gateway $(GATEWAY)

# Sandbox, Prefect server with UI, worker and deployments on this machine; PORT=… sets the server's port.
up: .venv/.installed-up
	@$(BIN)/python -m deployments.up $(if $(PORT),--port '$(PORT)') $(ARGS)

PYTEST := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder

test: .venv/.installed-dev .venv/prefect
	$(PYTEST) $(ARGS)

# What `make test` leaves out: a worker, a server and automations as processes of their own, and a browser.
# It needs PostgreSQL and Chromium (Debian: `apt-get install postgresql chromium`); without them, it skips what uses them.
test-stack: .venv/.installed-server .venv/.installed-dev .venv/prefect
	$(PYTEST) -m stack $(ARGS)

test-all: test test-stack wheel-test

# `make test` 20 times, the last ten beside two busy loops; ARGS='--runs 2 --busy 1' for fewer.
repeat-test: .venv/.installed-dev
	@$(BIN)/python -m tests.endurance.repeat $(ARGS)

# PostgreSQL, Redis, API, services and two workers as separate processes, and the deployments on them.
scale-test: .venv/.installed-server
	@$(BIN)/python -m tests.endurance.scale

# 10,000 webhook deliveries while the receiver and the Prefect server are killed; ARGS='--bookings 1000' for fewer.
storm-test: .venv/.installed-up
	@$(BIN)/python -m tests.endurance.storm $(ARGS)

# Kills each writing flow 50 times with `kill -9`, and runs it again; ARGS='--kills 2 --seed 1' for fewer, and the same.
# Then a large organization, as load-test: LOAD='--hosts 50 --events 3000' for a smaller one.
soak: .venv/.installed-up
	@$(BIN)/python -m tests.endurance.soak $(ARGS)
	@$(BIN)/python -m tests.endurance.load $(LOAD)

# How many seconds it takes until `screen-booking` has canceled a booking.
latency-test: .venv/.installed-up
	@$(BIN)/python -m tests.endurance.latency $(ARGS)

# 1,000 hosts and 100,000 future events: digest and scan of the organization; ARGS='--hosts 50 --events 3000' for fewer.
load-test: .venv/.installed-up
	@$(BIN)/python -m tests.endurance.load $(ARGS)

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.installed-dev
	$(BIN)/mypy
	$(BIN)/python -m tests.type_check_examples

build: .venv/.installed-dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

# Builds sdist and wheel, and does what a new user does with the wheel in an empty environment outside this folder:
# install, check, init, test, deploy, run. ARGS='--limit 600' on a busy machine.
wheel-test: .venv/.installed-up .venv/.installed-dev
	rm -rf dist
	@$(BIN)/python -m tests.endurance.wheel --dist dist $(ARGS)

bench: .venv/.installed-dev
	$(BIN)/python -m benchmarks.run $(ARGS)

clean:
	rm -rf .venv .demo .up .screenshots dist build .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name it with: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Making .venv with $(PYTHON) …"
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing prefect-calendly and Prefect into .venv (about half a minute, once) …"
	$(PIP) --editable .
	@touch $@

.venv/.installed-up: .venv/.installed
	@$(PIP) --editable '.[deployments]'
	@touch $@

.venv/.installed-server: .venv/.installed-up
	@$(PIP) --editable '.[server]'
	@touch $@

.venv/.installed-dev: .venv/.installed
	@echo "Installing what the tests need into .venv …"
	$(PIP) --editable '.[dev]'
	@touch $@

# An empty database of Prefect, which the tests copy: it takes Prefect a quarter of a minute to make one.
.venv/prefect: .venv/.installed
	@echo "Making an empty Prefect database for the tests …"
	@rm -rf $@
	@PREFECT_HOME='$(CURDIR)/$@.new' $(BIN)/prefect server database upgrade --yes >/dev/null
	@mv $@.new $@
	@touch $@
