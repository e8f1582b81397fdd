PYTHON ?= python3
PROFILE ?= book
SEED ?= 0
DEVICE ?= auto
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

BIN := .venv/bin
INSTALLED := .venv/installed
STRIP := $(BIN)/nbstripout --keep-id --extra-keys "metadata.papermill metadata.jupytext cell.metadata.papermill"
# JupyterLab, which would ask another host for its news.
QUIET := --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate

# A misspelt variable would be passed over in silence: make run CHAPTER=x PROFIL=smoke.
SPACE := $(subst x,,x x)
GIVEN := $(foreach given,$(subst \$(SPACE),_,$(MAKEOVERRIDES)),$(firstword $(subst =, ,$(given))))
UNKNOWN := $(filter-out PYTHON CHAPTER PROFILE SEED DEVICE JOBS,$(GIVEN))
ifneq ($(UNKNOWN),)
$(error unknown: $(UNKNOWN); allowed: PYTHON CHAPTER PROFILE SEED DEVICE JOBS)
endif

.PHONY: help setup book notebooks lab pdf test long lint check format run record clean

help:  ## say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-9s %s\n", $$1, $$2}' Makefile
	@echo "variables: CHAPTER=flooding PROFILE=smoke|book|full SEED=0 DEVICE=auto JOBS=2"

setup: $(INSTALLED)  ## make the environment in .venv (1.7 GB, a few minutes)

book: $(INSTALLED)  ## execute what is stale and render the book
	$(BIN)/blogcore run --jobs $(JOBS)
	$(BIN)/jupyter-book build . -W -n --keep-going --quiet
	@echo "open file://$(CURDIR)/_build/html/index.html"

notebooks: book  ## the same; the pages as notebooks that read well anywhere
	@echo "plain notebooks: $(CURDIR)/_build/html/_sources/chapters"

lab: book  ## the same; open copies of them, in lab/, to read and change
	@mkdir -p lab
	@for page in _build/html/_sources/chapters/*.ipynb; do \
	  test -e "lab/$${page##*/}" || cp "$$page" lab/; done
	$(BIN)/jupyter lab lab $(QUIET)

pdf: book  ## print the book as one PDF; needs Chromium
	$(BIN)/python _ext/pdf.py _build/html _build/eight_posts.pdf
	@echo "printed: $(CURDIR)/_build/eight_posts.pdf"

test: $(INSTALLED)  ## all tests: rooms, references, house rules, chapters, pages
	$(BIN)/pytest -n $(JOBS)

long: $(INSTALLED)  ## the tests that are left out: twenty root seeds a chapter, five processes
	$(BIN)/pytest -n $(JOBS) -m long

lint: $(INSTALLED)  ## ruff and the import contract
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo

check: lint  ## lint, and the tests that take less than a minute
	$(BIN)/pytest -n $(JOBS) -m "not slow and not browser"

format: $(INSTALLED)  ## put code, notebooks and the map of rooms into the house's form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(STRIP) chapters/*.ipynb
	$(BIN)/python tests/rooms.py

run: $(INSTALLED)  ## execute one chapter: make run CHAPTER=flooding PROFILE=smoke
	$(BIN)/blogcore run $(CHAPTER) --profile $(PROFILE) --seed $(SEED) --device $(DEVICE)

record: $(INSTALLED)  ## the same, and accept what it gives into data/records
	$(BIN)/blogcore run $(CHAPTER) --profile $(PROFILE) --seed $(SEED) --device $(DEVICE) --record

clean:  ## remove everything that was built; .venv stays
	rm -rf _build .pytest_cache .ruff_cache .import_linter_cache

$(INSTALLED): constraints.txt pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …"; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip' || \
	  { echo "Python's venv is needed; on Debian: apt install python3-venv"; exit 1; }
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e '.[book,test]'
	$(BIN)/python -c 'import matplotlib.font_manager'  # lists the fonts, once
	@touch $@
