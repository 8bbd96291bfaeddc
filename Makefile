# `make demo` and `make test` are all a fresh machine needs; both create .venv first.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo serve studio docs test lock test-newest test-lowest chromium test-slow format bench train study league paper-dry-run clean

LOCK := requirements/lock.txt
INSTALL := -m pip install --quiet --disable-pip-version-check
# Most of what is installed is never imported, so Python compiles what is, when it is.
LOCKED := $(BIN)/python $(INSTALL) --no-compile --constraint $(LOCK)
export PYTHONDONTWRITEBYTECODE =
# What is built from source, the package itself and forbiddenfruit, is built by the locked hatchling and
# setuptools, not by the newest that an isolated build would fetch (nor by a venv's old setuptools: no wheels).
EDITABLE := --no-build-isolation --editable

# Exactly what was tested, and no more than the command needs.
.venv/tools: $(LOCK)
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("tpo_graph needs Python 3.11 or newer, and this is %s. Name one: make PYTHON=python3.11" % sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(LOCKED) pip hatchling editables setuptools
	touch $@

.venv/demo: .venv/tools pyproject.toml
	$(LOCKED) $(EDITABLE) '.[local]'
	touch $@

.venv/dev: .venv/tools pyproject.toml
	$(LOCKED) $(EDITABLE) '.[dev]'
	touch $@ .venv/demo .venv/serve

.venv/serve: .venv/tools pyproject.toml
	$(LOCKED) $(EDITABLE) '.[local,serve]'
	touch $@ .venv/demo

.venv/docs: .venv/tools pyproject.toml
	$(LOCKED) $(EDITABLE) '.[docs]'
	touch $@

demo: .venv/demo  ## TPO on embedded models: rewards rise, answers appear; no network, no key
	@while IFS= read -r query; do \
		printf '\n>>> %s\n\n' "$$query"; \
		$(BIN)/tpo run --config examples/offline/tpo.toml --seed 7 --trajectory -- "$$query" \
			</dev/null || exit 1; \
	done < examples/offline/queries.txt

serve: .venv/serve  ## The embedded models behind an OpenAI-compatible URL: http://127.0.0.1:8100/v1
	$(BIN)/tpo serve --config examples/offline/tpo.toml

studio: .venv/dev  ## LangGraph Studio on the embedded models, or on TPO_CONFIG=your.toml
	TPO_CONFIG=$${TPO_CONFIG:-examples/offline/tpo.toml} LANGGRAPH_CLI_NO_ANALYTICS=1 \
		$(BIN)/langgraph dev --no-reload --n-jobs-per-worker 4

docs: .venv/docs  ## guides, notebooks and API reference as a site, in site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --config-file docs/site/mkdocs.yml
	@echo "site/index.html: look at it with $(BIN)/python -m http.server --directory site"

test: .venv/dev chromium  ## lint, types, layers, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/deptry tpo_graph
	$(BIN)/python -m pytest

# The versions that this machine's users may have tomorrow, and the oldest that pyproject.toml admits. torch
# stays the locked one: another would bring CUDA.
test-newest: chromium  ## the tests with the newest version of everything
	$(PYTHON) -m venv --clear .venv-newest
	grep '^torch==' $(LOCK) > .venv-newest/constraints.txt
	.venv-newest/bin/python $(INSTALL) --upgrade pip
	.venv-newest/bin/python $(INSTALL) --upgrade -c .venv-newest/constraints.txt --editable '.[dev]'
	.venv-newest/bin/python -m pytest

# Old releases of Ray and datasets leave files open, and Ray announces a change; neither is a fault of ours.
NOT_OURS := -W default::ResourceWarning -W default::pytest.PytestUnraisableExceptionWarning
test-lowest: chromium  ## the tests with the lowest versions that pyproject.toml admits
	$(PYTHON) -m venv --clear .venv-lowest
	$(PYTHON) requirements/lowest.py > .venv-lowest/constraints.txt
	.venv-lowest/bin/python $(INSTALL) --upgrade pip
	.venv-lowest/bin/python $(INSTALL) -c .venv-lowest/constraints.txt --editable '.[dev]'
	RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0 .venv-lowest/bin/python -m pytest $(NOT_OURS)

PYTHONS ?= $(PYTHON)
lock:  ## resolve all versions anew: make lock PYTHONS="python3.11 python3.12 python3.13"
	$(PYTHON) requirements/lock.py $(PYTHONS)

chromium:  # for the report's tests; without one they are skipped
	@for name in chromium chromium-browser google-chrome; do \
		command -v $$name >/dev/null && exit 0; done; \
	export DEBIAN_FRONTEND=noninteractive; \
	get="apt-get -qq -y -o Acquire::Retries=1 -o Acquire::http::Timeout=30"; \
	install="$$get install --no-install-recommends chromium"; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		{ $$install || { $$get update && $$install; }; } >/dev/null 2>&1; fi; \
	command -v chromium >/dev/null || echo "no chromium: the report's browser tests are skipped"

test-slow: .venv/dev chromium  ## the long tests: training, kills, wheels
	$(LOCKED) $(EDITABLE) '.[dev,test-slow]'
	$(BIN)/python -m pytest -m slow

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev  ## speed and size, as ratios measured side by side
	$(BIN)/python -m benchmarks

train: .venv/dev  ## train the offline demo's models again (examples/offline/README.md)
	$(BIN)/python examples/offline/train.py

league: .venv/dev  ## the methods after TPO at equal tokens, offline, two tastes; run it again to resume
	$(BIN)/python examples/offline/league.py --store $${TMPDIR:-/tmp}/tpo-league.jsonl

study: .venv/dev  ## the offline study: TPO, best-of-N, revision, control, two tastes
	$(BIN)/python examples/offline/study.py

paper-dry-run: .venv/dev  ## the paper's table on offline models and fixtures: no number means anything
	$(BIN)/python examples/paper/table.py --dry-run --out $${TMPDIR:-/tmp}/paper-dry-run

clean:
	rm -rf .venv .venv-newest .venv-lowest dist site .pytest_cache .ruff_cache .hypothesis .import_linter_cache
