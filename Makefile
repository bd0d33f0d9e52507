# make run | stop | test | test-all | plone | plone-short | bench | storm | lint | package   (ZOPE=5.14.2, ARGS=... for pytest)
# Needs Python 3.11 or newer and make; everything else is installed into a virtual environment.

ZOPE     ?= 6.3
KILLS    ?= 1000
INSTANCE ?= instance$(if $(filter-out 6.3,$(ZOPE)),-$(ZOPE))
VENV     ?= .venv$(if $(filter-out 6.3,$(ZOPE)),-$(ZOPE))
NEW_ENOUGH = -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
PYTHON   ?= $(shell for p in python3 python python3.14 python3.13 python3.12 python3.11; do \
              $$p $(NEW_ENOUGH) && { echo $$p; break; }; done)
CONSTRAINTS = constraints-$(ZOPE).txt
READY    = $(VENV)/.ready
PIP      = $(VENV)/bin/python -m pip --disable-pip-version-check install --quiet --constraint $(CONSTRAINTS)
# Two test processes for each CPU, since many tests wait.
JOBS     ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1))))
PYTEST   = $(VENV)/bin/python -m pytest -n $(JOBS) --dist loadgroup
SELECTION ?= -m 'not thorough and not sweep'
PLONE    = .venv-plone
PLONE_PYTEST = PLONE_PYTHON='$(CURDIR)/$(PLONE)/bin/python' $(VENV)/bin/python -m pytest tests/functional/test_plone.py
PLONE_PIP = $(PLONE)/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints-plone.txt

.PHONY: help run stop test test-thorough test-failed test-all plone plone-short bench storm lint package clean

help:
	@head -n 2 Makefile

run: $(READY)
	@$(VENV)/bin/python tools/instance.py start $(INSTANCE)

stop:
	@if [ -x $(VENV)/bin/python ]; then $(VENV)/bin/python tools/instance.py stop $(INSTANCE); \
	 else echo 'Nothing runs: $(VENV) does not exist yet; "make run" makes it.'; fi

test: $(READY)
	$(PYTEST) $(SELECTION) $(ARGS)

test-thorough: $(READY)
	$(PYTEST) -m 'thorough and not sweep' $(ARGS)

# Those that failed last, one after the other.
test-failed: $(READY)
	$(PYTEST) -n 1 --last-failed --last-failed-no-failures=none $(ARGS)

test-all: $(READY)
	$(PYTEST) $(ARGS)

plone: $(READY) $(PLONE)/.ready
	$(PLONE_PYTEST) $(ARGS)

plone-short: $(READY) $(PLONE)/.ready
	$(PLONE_PYTEST) -m 'not restarts and not browser' $(ARGS)

bench: $(READY)
	$(VENV)/bin/python benchmarks/run.py $(ARGS)

storm: $(READY)
	$(VENV)/bin/python tests/functional/storm.py --kills $(KILLS) --stops $(KILLS)

lint: $(READY)
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check --quiet .
	$(VENV)/bin/python -m mypy

# What would be uploaded to a package index, and whether the index can show its description.
package: $(READY)
	rm -rf build dist
	$(VENV)/bin/python -m build --no-isolation --outdir dist .
	$(VENV)/bin/python -m twine check --strict dist/*

clean:
	rm -rf .venv .venv-* dist .pytest_cache .ruff_cache .mypy_cache .hypothesis build *.egg-info

$(READY): setup.py pyproject.toml $(CONSTRAINTS)
	@echo 'Installing Zope $(ZOPE) and the requirements of the tests into $(VENV) (once; a minute or two) ...'
	@$(call new_venv,$(VENV))
	@$(PIP) 'Zope[wsgi]==$(ZOPE)' ruff mypy mypy-zope -e '.[test]'
	@$(PIP) -e '.[native]' || echo 'Continuing without pystack: C frames are not read from core files.'
	@touch $@

$(PLONE)/.ready: setup.py pyproject.toml constraints-plone.txt
	@echo 'Installing Plone into $(PLONE) (once; some minutes) ...'
	@$(call new_venv,$(PLONE))
	@$(PLONE_PIP) Plone -e '.[native]'
	@touch $@

define new_venv
[ -n "$(PYTHON)" ] || { echo 'No Python 3.11 or newer on the PATH; set one: make PYTHON=/path/to/python3' >&2; exit 1; }; \
[ -x $(1)/bin/python ] || $(PYTHON) -m venv $(1) || { rm -rf $(1); \
  echo 'The virtual environment could not be made; on Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
endef
