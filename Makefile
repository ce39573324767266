# Every target sets up its own .venv first; nothing but git, make, a Python from 3.11 to 3.14 and package registries is
# needed.
PYTHON ?= $(firstword $(foreach one,3.11 3.12 3.13 3.14,$(shell command -v python$(one))) python3)
VENV := .venv
RUN := $(VENV)/bin
# torch comes first and alone: with it in place no other package pulls another build of it.
TORCH := $(shell sed -n 's/^\(torch==.*\)/\1/p' constraints.txt)

.PHONY: demo test quick lint docs hooks e2e mutants clean

demo: $(VENV)/ready
	$(RUN)/memexp launch experiments/demo.yaml --local --jobs 2
	$(RUN)/memexp report experiments/demo.yaml --out memexp_home/demo.html

test: $(VENV)/ready lint docs
	OMP_NUM_THREADS=1 $(RUN)/pytest -n 2 --dist worksteal -q

quick: $(VENV)/ready
	OMP_NUM_THREADS=1 $(RUN)/pytest -n 2 --dist worksteal -q -m "not slow"

lint: $(VENV)/ready
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/pyright
	$(RUN)/lint-imports

# The documentation pages and the API reference as one site, in build/site; every warning is an error.
docs: $(VENV)/ready
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict --quiet

# Ruff and the layering check before every commit.
hooks: $(VENV)/ready
	$(RUN)/pre-commit install

# Launches against a real SkyPilot API server, with a Slurm cluster on this machine; Debian, as root.
e2e: $(VENV)/ready
	bash devops/e2e/e2e.sh $(VENV)

# Mutation score of the tests on a sample of 300 small wrong changes: an hour or two on two cores.
mutants: $(VENV)/ready
	$(RUN)/python benchmarks/mutants.py --sample 300

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || \
		{ echo "a Python from 3.11 to 3.14 is needed; set PYTHON=..."; exit 1; }
	test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet $(TORCH)
	$(RUN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
