# The two that matter: `make demo` shows what pilotmtc does, `make check` tests everything that can be tested.
# Each sets up .venv first if that has not been done; on Debian and Ubuntu, as root, from nothing.

unexport PYTHONDONTWRITEBYTECODE  # where it is set, each of the tests' many Pythons would compile all again

BIN = .venv/bin
RUN = .venv/.run-is-set-up
DEV = .venv/.dev-is-set-up
WORKERS = 5  # more than there are cores: most tests wait most of the time

# An environment that was moved, or whose Python has gone, is made anew.
ifneq ($(wildcard .venv/bin/pip),)
STALE := $(shell .venv/bin/python -c '' && grep -qF '$(CURDIR)/.venv/bin/python' .venv/bin/pip || echo FORCE)
endif

.PHONY: FORCE help demo test check bench faults faults-long study study-full pictures clean
.DEFAULT_GOAL := help

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s  %s\n", $$1, $$2 }' Makefile

demo: $(RUN) ## run real tasks through a local pilot and show the results
	@sh tests/lab/demo.sh

test: $(DEV) ## the tests alone; ARGS are pytest's, such as ARGS="tests/unit -x"
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

check: $(DEV) ## all that CI asks: lint, format, types, floors and doors, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# The other core compiles the tests meanwhile, which each worker of the tests would do by itself.
	$(BIN)/python -m pytest --collect-only -q > .venv/collected 2>&1 & $(BIN)/mypy; found=$$?; wait; exit $$found
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

bench: $(DEV) ## measure the budgets beside their baselines; ARGS="--help" says what can be chosen
	$(BIN)/python -m tests.bench $(ARGS)

faults: $(DEV) ## let everything die at random moments for minutes, and count; ARGS="--help" says what can be chosen
	$(BIN)/python -m tests.faults.campaign --minutes 8 $(ARGS)

faults-long: $(DEV) ## the same for an hour, with more tasks
	$(BIN)/python -m tests.faults.campaign --minutes 60 --tasks 2000 $(ARGS)

STUDY = PYTHONPATH="$(CURDIR):$(CURDIR)/examples" $(BIN)/python -m weak_scaling

study: $(DEV) ## compare pilotmtc with other tools, and make docs/performance.md of it (a quarter of an hour); ARGS are those of run
	sh examples/weak_scaling/programs.sh
	mkdir -p .bench docs/pictures/study && rm -f .bench/study.json
	$(STUDY) run --cores 2 8 --time-scale 0.005 \
	    --parts scaling faults late lognormal computing mixed failing graph --cache .bench/engines --out .bench/study.json $(ARGS) || test -s .bench/study.json
	$(STUDY) plot .bench/study.json --type svg --into docs/pictures/study
	$(STUDY) page .bench/study.json --pictures > .bench/performance.md
	mv .bench/performance.md docs/performance.md && mv .bench/study.json docs/performance.json

study-full: ## the same with longer tasks, more workers and three rounds (hours)
	$(MAKE) study ARGS="--cores 2 4 8 16 32 64 --time-scale 0.05 --rounds 3 $(ARGS)"

pictures: $(DEV) ## take the documentation's pictures of the screen anew, of a study that really runs (two minutes)
	$(BIN)/python -m tests.lab.pictures

clean: ## remove what was built, measured and cached, and .venv
	rm -rf .venv .venv.new .bench build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find pilotmtc adaptors tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN): pyproject.toml tests/lab/setup.sh $(STALE)
	@sh tests/lab/setup.sh run

$(DEV): pyproject.toml tests/lab/setup.sh $(STALE)
	@sh tests/lab/setup.sh dev
