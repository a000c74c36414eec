# make demo · make test · make bench · make lint. Each sets up what it needs: a virtual environment in .venv that also
# sees what is installed on the system (so a CUDA build of torch is kept), the missing requirements, and portattn built
# for what this machine has. Nothing is installed outside .venv.
#
#   PYTHON=python3.12          interpreter of .venv
#   PORTATTN_TARGETS=host,cuda device libraries to build, instead of what the machine has (see setup.py for more)
#   ARGS="..."                 arguments for the demo, pytest or the benchmark
PYTHON ?= python3
ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python
SOURCES := $(shell find csrc cmake python/csrc jax_bindings/csrc -type f -not -name '*.pyc') CMakeLists.txt setup.py pyproject.toml
# cmake and ninja from .venv, where the system has none
export PATH := $(abspath $(VENV)/bin):$(PATH)

.PHONY: demo test bench lint clean

demo: $(VENV)/.portattn $(VENV)/.needs-demo
	$(RUN) examples/train_packed_gpt.py $(ARGS)

test: $(VENV)/.portattn $(VENV)/.needs-test
	$(RUN) -m pytest $(ARGS)

bench: $(VENV)/.portattn $(VENV)/.needs-bench
	$(RUN) benchmarks/bench.py $(ARGS)

lint: $(VENV)/.needs-lint
	$(RUN) tests/lint/layering.py
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

clean:
	rm -rf build python/portattn/lib $(VENV)

$(VENV)/bin/python:
	$(PYTHON) requirements/make_venv.py $(VENV)

# The requirements of requirements/<name>.txt that are not there yet.
$(VENV)/.needs-%: requirements/%.txt requirements/install.py | $(VENV)/bin/python
	$(RUN) requirements/install.py $<
	@touch $@

# The build is run by itself first because pip would hide its progress; without build isolation, because the build
# requirements are in .venv already.
$(VENV)/.portattn: $(SOURCES) | $(VENV)/.needs-build
	$(RUN) setup.py --quiet build_ext --inplace
	$(RUN) -m pip install --quiet --no-build-isolation --no-deps --editable .
	@touch $@
