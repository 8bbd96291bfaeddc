# `make demo` and `make test` are all a fresh machine needs; both create .venv first.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo studio test chromium test-slow format bench train study paper-dry-run clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv/installed  ## TPO on embedded models: rewards rise, answers appear; no network, no key
	@while IFS= read -r query; do \
		printf '\n>>> %s\n\n' "$$query"; \
		$(BIN)/tpo run --config examples/offline/tpo.toml --seed 7 --trajectory -- "$$query" \
			</dev/null || exit 1; \
	done < examples/offline/queries.txt

studio: .venv/installed  ## LangGraph Studio on the embedded models, or on TPO_CONFIG=your.toml
	TPO_CONFIG=$${TPO_CONFIG:-examples/offline/tpo.toml} LANGGRAPH_CLI_NO_ANALYTICS=1 \
		$(BIN)/langgraph dev --no-reload --n-jobs-per-worker 4

test: .venv/installed chromium  ## lint, types, layers, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

chromium:  # for the report's tests; without one they are skipped
	@for name in chromium chromium-browser google-chrome; do \
		command -v $$name >/dev/null && exit 0; done; \
	export DEBIAN_FRONTEND=noninteractive; \
	get="apt-get -qq -y -o Acquire::Retries=1 -o Acquire::http::Timeout=30"; \
	install="$$get install --no-install-recommends chromium"; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		{ $$install || { $$get update && $$install; }; } >/dev/null 2>&1; fi; \
	command -v chromium >/dev/null || echo "no chromium: the report's browser tests are skipped"

test-slow: .venv/installed chromium  ## the long tests: training, kills, wheels
	$(BIN)/python -m pytest -m slow

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/installed  ## speed and size, as ratios measured side by side
	$(BIN)/python -m benchmarks

train: .venv/installed  ## train the offline demo's models again (examples/offline/README.md)
	$(BIN)/python examples/offline/train.py

study: .venv/installed  ## the offline study: TPO, best-of-N, revision, control, two tastes
	$(BIN)/python examples/offline/study.py

paper-dry-run: .venv/installed  ## the paper's table on offline models and fixtures: no number means anything
	$(BIN)/python examples/paper/table.py --dry-run --out $${TMPDIR:-/tmp}/paper-dry-run

clean:
	rm -rf .venv dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
