# The verbs of the house. Each makes .venv when it is missing; the second time nothing is left to do.
#
#   make up      start everything on this machine        make lint   ruff, mypy, workflows
#   make test    run the tests                           make bench  measure this machine (docs/benchmarks.md)
#   make check   run the tests that need no server      make coverage   how many lines the tests reach
#   make gate    hold this checkout against budgets.toml and its merge base
#   make storm   kill, pause or cut something every second, and account for every request
#
# PYTHON=python3.12 chooses the interpreter. TORCH_INDEX_URL chooses where torch and torchvision come from (README.md).

PYTHON ?= python3
TORCH_INDEX_URL ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# What .ci/gate reads: a model, an address to measure instead of a stack of its own, the commit to compare with, a folder.
MODEL ?= imagenet
URL ?=
BASE ?=
OUT ?= .headrace/gate
# One mutant only, and how often.
ONLY ?=
REPEAT ?= 1
BENCH ?=
TESTS ?=
# Where the tests are that need neither PyTorch nor a process; those among them that ask for a server are left out.
PURE := tests/test_architecture.py tests/test_suite.py tests/unit/consumer/batching tests/unit/consumer/pipeline \
	tests/unit/consumer/queue tests/unit/consumer/switching tests/unit/loadgen tests/unit/producer_api tests/unit/shared tests/unit/test_docs.py tests/unit/test_deploy_files.py
# Where the tests are that import PyTorch: six seconds for each process that collects them, so that only two do.
WITH_TORCH := tests/unit/consumer tests/unit/torchserve
# How long a storm or a soak lasts, and which one it is.
MINUTES ?=
SEED ?= 1
# These compare a measurement with a limit, so nothing else may run meanwhile.
ALONE := row_23 or is_away or row_30

# With SLOW_CPU=1 everything runs as on a processor without AVX-512 and bf16: torch and its libraries are forbidden to use
# them (x86 only). tests/slow_processor.py has the same list.
SLOW_CPU ?=
ifeq ($(SLOW_CPU),1)
export ONEDNN_MAX_CPU_ISA := AVX2
export ATEN_CPU_CAPABILITY := avx2
export MKL_ENABLE_INSTRUCTIONS := AVX2
endif

# Tools that share no package with Headrace.
LOCKER := .headrace/lock
AUDITOR := .headrace/audit
SITE := .headrace/site-tools
UPGRADE ?=

.DEFAULT_GOAL := help
.PHONY: help up check test coverage lint bench bench-batching bench-peers gate storm soak mutants selftest clean venv lock audit site

help: ## show the verbs
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(STAMP) ## start Redis, the consumers and the front end; Ctrl-C stops them
	@exec $(BIN)/python -m headrace up

check: $(STAMP) ## run the pure tests, without servers and PyTorch: under a minute
	@$(BIN)/python -m pytest -q -n 2 -m "not soak and not server" $(PURE)

test: $(STAMP) ## run the tests, six at a time where most of them wait; SLOW_CPU=1 as on a processor without AVX-512
	@status=0; \
	$(BIN)/python -m pytest -n 2 --dist worksteal $(WITH_TORCH) || status=$$?; \
	$(BIN)/python -m pytest -n 6 --dist worksteal $(addprefix --ignore=,$(WITH_TORCH)) || status=$$?; \
	exit $$status

coverage: $(STAMP) ## run the tests and say how many lines of each package they reach; TESTS=tests/unit for some
	@PYTHON=$(BIN)/python .ci/coverage $(TESTS)

lint: $(STAMP) ## check style, types and workflows
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	@$(BIN)/zizmor --offline --quiet .github

bench: $(STAMP) ## measure this machine, about 20 minutes; BENCH=--quick for 5, BENCH=--write to put it into the documents
	@$(BIN)/python -m tests.perf.bench $(BENCH)

bench-batching: $(STAMP) ## before batching and after, on this machine; BENCH=--write puts the table into README.md
	@$(BIN)/python -m tests.perf.bench --only batching $(BENCH)

bench-peers: $(STAMP) ## mosec and LitServe beside Headrace; the first time they are installed under .headrace/
	@$(BIN)/python -m tests.perf.bench --only peers $(BENCH)

gate: $(STAMP) ## measure this checkout and its merge base, and hold them against budgets.toml
	@MODEL='$(MODEL)' URL='$(URL)' BASE='$(BASE)' OUT='$(OUT)' PYTHON=$(BIN)/python .ci/gate

storm: $(STAMP) ## kill, pause, restart or cut something every second and account for every id; MINUTES=10 SEED=1
	@$(BIN)/python -m tests.storm --minutes $(or $(MINUTES),10) --seed $(SEED)

soak: $(STAMP) ## the storm for MINUTES=60, then the tests that take long; all of it, whatever fails
	@status=0; \
	$(BIN)/python -m tests.storm --minutes $(or $(MINUTES),60) --seed $(SEED) || status=$$?; \
	$(BIN)/python -m pytest -m soak -n 2 -k "not ($(ALONE))" || status=$$?; \
	$(BIN)/python -m pytest -m soak -n 0 -k "$(ALONE)" || status=$$?; \
	exit $$status

mutants: $(STAMP) ## break the service in twelve ways and see whether the gate notices
	@$(BIN)/python -m tests.proof mutants $(if $(ONLY),--only $(ONLY)) --repeat $(REPEAT)

selftest: $(STAMP) ## measure the load generator itself
	@$(BIN)/python -m tests.proof selftest

venv: $(STAMP) ## only make .venv

clean: ## remove .venv, caches and the data of `make up`
	@rm -rf $(VENV) .headrace .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Every package with the hash that locks/ names. Only what comes from an index of its own (TORCH_INDEX_URL) has other
# hashes there: it comes last, when all that it depends on is in place, and a pin such as torch==2.15.0 admits the builds
# 2.15.0+cpu and 2.15.0+cu130 alike.
$(STAMP): pyproject.toml constraints.txt $(wildcard locks/*.txt)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "Headrace needs Python 3.11 or newer, and '$(PYTHON)' is not; try make $(or $(MAKECMDGOALS),up) PYTHON=python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || { echo "Making $(VENV) with $$($(PYTHON) --version)..."; $(PYTHON) -m venv $(VENV) || { \
	    echo "The virtual environment could not be made; on Debian and Ubuntu: apt install python3-venv" >&2; \
	    rm -rf $(VENV); exit 2; }; }
	@$(BIN)/python deploy/locked.py pip > $(VENV)/locked.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(VENV)/locked.txt
	@if $(BIN)/python -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)'; then \
	    echo "Bringing $(VENV) up to date..."; \
	else \
	    echo "Installing PyTorch and friends (about 3 GB to download, a few minutes)..."; fi
	@$(BIN)/python deploy/locked.py dev $(if $(TORCH_INDEX_URL),--without-torch) > $(VENV)/locked.txt
	@$(BIN)/python -m pip install --disable-pip-version-check --no-deps --require-hashes -r $(VENV)/locked.txt
	@if [ -n "$(TORCH_INDEX_URL)" ]; then \
	    $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt \
	        --index-url "$(TORCH_INDEX_URL)" torch torchvision; fi
	@touch $@
	@echo "Installed. Next time this is skipped."

site: ## build the documentation as a site in .headrace/site; nothing is fetched but the tools, the first time
	@test -x $(SITE)/bin/python || $(PYTHON) -m venv $(SITE)
	@$(SITE)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r locks/site.txt
	@NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --quiet
	@echo "The site is in .headrace/site; open .headrace/site/index.html."

lock: ## write locks/ from constraints.txt; UPGRADE=1 first renews constraints.txt
	@test -x $(LOCKER)/bin/python || $(PYTHON) -m venv $(LOCKER)
	@$(LOCKER)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r locks/lock.txt
	@$(LOCKER)/bin/python deploy/lock.py $(if $(UPGRADE),--upgrade)

audit: ## look for known vulnerabilities in what locks/ pins; asks the package index
	@test -x $(AUDITOR)/bin/python || $(PYTHON) -m venv $(AUDITOR)
	@$(AUDITOR)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r locks/audit.txt
	@$(PYTHON) deploy/locked.py $(basename $(notdir $(wildcard locks/*.txt))) > $(AUDITOR)/locked.txt
	@$(AUDITOR)/bin/pip-audit --strict --disable-pip --require-hashes -r $(AUDITOR)/locked.txt
