# The two commands of the README are `make demo` and `make test`; each makes the environment it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run-installed
DEV := $(VENV)/.dev-installed
NOTEBOOKS := nbs/index.ipynb $(sort $(wildcard nbs/[0-9]*/*.ipynb nbs/findings/*.ipynb))
RESULTS := milan_28 milan_28_distilled nanjing nanjing_distilled shandong demo

.PHONY: demo test nbs py docs lab readme results clean

demo: $(RUN)  ## simulated city -> generated traffic, measured
	$(BIN)/stouter run demo --out runs/run/demo/seed0

test: $(DEV)  ## notebooks, then tests across them
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers 2 --do_print
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -q

nbs: $(DEV)  ## execute every notebook in place, clean, export
	for nb in $(NOTEBOOKS); do OMP_NUM_THREADS=1 $(BIN)/jupyter-nbconvert --log-level ERROR \
		--to notebook --execute --inplace $$nb || exit 1; done
	$(BIN)/python tools/shrink_outputs.py $(NOTEBOOKS)
	$(BIN)/nbdev_clean
	$(BIN)/nbdev_export
	$(MAKE) readme

py: $(DEV)  ## editable py:percent copies of the notebooks in _py/
	$(BIN)/jupytext --sync $(NOTEBOOKS) nbs/experiments/*.ipynb

readme: $(DEV)  ## README.md from nbs/index.ipynb
	$(BIN)/python tools/make_readme.py

results: $(DEV)  ## the real runs whose tables the README shows; finished ones are not run again
	for name in $(RESULTS); do OMP_NUM_THREADS=1 $(BIN)/stouter run $$name --out runs/run/$$name/seed0 || exit 1; done
	$(BIN)/python tools/keep_results.py $(RESULTS:%=runs/run/%/seed0)

docs: $(DEV)  ## the site, in _docs/
	$(BIN)/python tools/make_docs.py

lab: $(DEV)
	$(BIN)/jupyter-lab nbs

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(RUN): $(VENV)/bin/python settings.ini setup.py
	$(BIN)/pip install -q -e .
	touch $@

$(DEV): $(VENV)/bin/python settings.ini setup.py
	$(BIN)/pip install -q -e ".[dev]"
	touch $@ $(RUN)

clean:
	rm -rf build dist *.egg-info _proc _docs
