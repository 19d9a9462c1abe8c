# Tickertape needs Python 3.11 or newer and make; everything else is installed into .venv.

.SILENT:
.PHONY: help run test chaos bench capacity check format lock clean env

PYTHON ?=
ARGS ?=
MINUTES ?=
SEED ?=
QUICK ?=
ROUNDS ?=
VENV ?= .venv
BIN = $(VENV)/bin

help:
	echo 'make run     start everything at http://127.0.0.1:8000/ (PORT=8123 make run moves it)'
	echo 'make test    run the tests (ARGS="-k name" chooses; ARGS="-m long" runs the long ones instead)'
	echo 'make chaos   break everything for MINUTES=13 and show that nobody missed anything (SEED=7 replays a run)'
	echo 'make bench   measure it beside its peers and print the tables (QUICK=1 takes two minutes; ARGS="--only idle" chooses)'
	echo 'make capacity  what a load takes and costs (ARGS="--connections 1000000 --events 2000"; ARGS=--measure measures anew)'
	echo 'make check   lint, formatting, types, and which way imports point'
	echo 'make format  put the code into the one format'
	echo 'make lock    pin the dependencies of pyproject.toml anew (ARGS=--upgrade for newer ones)'
	echo 'make clean   remove the environment, the caches and the data of make run'

run: env
	exec $(BIN)/python -m project.run

test: env
	TICKERTAPE_MODE=test exec $(BIN)/python -m pytest -m 'not long' $(ARGS)

chaos: env
	exec $(BIN)/python -m tests.chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(ARGS)

bench: env
	exec $(BIN)/python -m bench $(if $(QUICK),--quick) $(if $(ROUNDS),--rounds $(ROUNDS)) $(ARGS)

capacity: env
	exec $(BIN)/python -m bench.capacity $(ARGS)

check: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	TICKERTAPE_MODE=test $(BIN)/mypy
	$(BIN)/lint-imports

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-* .data .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Sets $python: the one that PYTHON names, else the first on the PATH that is new enough.
FIND_PYTHON = \
	for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14) ''; do \
		test -n "$$python" || { \
			echo "make: no Python of 3.11 or newer here ($(or $(PYTHON),PYTHON=/path/to/python3 names one))." >&2; exit 1; }; \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	done; \
	"$$python" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: $$python has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

# Built again only when what it was made of changes: the lock, the Python, the place.
env:
	set -e; $(FIND_PYTHON); \
	made=$$("$$python" -c 'import hashlib, os, sys; print(hashlib.sha256(open("requirements.lock", "rb").read()).hexdigest(), sys.version.split()[0], os.path.realpath(sys.executable), os.getcwd())'); \
	if test "$$(cat $(VENV)/made 2>/dev/null)" = "$$made"; then exit 0; fi; \
	start=$$(date +%s); echo "installing into $(VENV) ($$("$$python" -V)) ..."; \
	rm -rf $(VENV); "$$python" -m venv $(VENV); \
	$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock; \
	echo "$$made" > $(VENV)/made; \
	echo "installed in $$(( $$(date +%s) - start )) s"

# uv resolves for every platform at once; nothing else here needs it.
lock:
	set -e; $(FIND_PYTHON); \
	tool=$$(mktemp -d); trap 'rm -rf "$$tool"' EXIT; \
	"$$python" -m venv "$$tool"; "$$tool/bin/python" -m pip install -qq --disable-pip-version-check uv; \
	"$$tool/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--group dev --group embedded --custom-compile-command 'make lock' $(ARGS) \
		pyproject.toml --output-file requirements.lock; \
	! grep -nE '://|^-|^ +--(index|extra|find)' requirements.lock
