# The two commands of the README are `make demo` and `make test`; each makes the environment it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run-installed
DEV := $(VENV)/.dev-installed
NOTEBOOKS := nbs/index.ipynb $(sort $(wildcard nbs/[0-9]*/*.ipynb nbs/tutorials/*.ipynb nbs/findings/*.ipynb))
RESULTS := milan_28 milan_28_distilled nanjing nanjing_distilled shandong demo
PAPER := milan_28 demo shandong nanjing  # data sets whose table has a row with the paper's configuration
RESIDUALS := milan_28 demo shandong nanjing  # those with a row of deviations from mean days
PAPER_nanjing := -p graph.station_features position  # it has no places of interest, which the paper's graph has

.PHONY: demo lint test test-kernels nbs py docs fuzz kills lab pretrained readme results constraints dist clean

demo: $(RUN)  ## simulated city -> generated traffic, measured
	$(BIN)/stouter run demo --out runs/run/demo/seed0

lint: $(DEV)  ## format and style; settings in ruff.toml
	$(BIN)/ruff check nbs stouter tests tools benchmarks
	$(BIN)/ruff format --check nbs tests tools benchmarks

test: lint  ## notebooks, then tests across them
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers 2 --do_print
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -q -n 2 --dist loadfile --no-loadscope-reorder

# Kernels of PyTorch, MKL, oneDNN, OpenBLAS and NumPy for processors without AVX: other last digits of floats.
# NumPy ignores names that it or the processor does not have (before version 2.4 X86_V3 and X86_V4 had other names).
KERNELS := ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE ONEDNN_MAX_CPU_ISA=SSE41 OPENBLAS_CORETYPE=Nehalem \
	NPY_DISABLE_CPU_FEATURES="AVX2 FMA3 AVX512F AVX512_SKX AVX512_ICL X86_V3 X86_V4"
FLOAT_NOTEBOOKS := nbs/02_graphs nbs/03_diffusion nbs/07_evaluation
FLOAT_TESTS := $(addprefix tests/,test_metrics.py test_realism.py test_diffusion.py)

test-kernels: $(DEV)  ## what compares floats, again with other kernels of the processor
	for folder in $(FLOAT_NOTEBOOKS); do \
		OMP_NUM_THREADS=1 $(KERNELS) $(BIN)/nbdev_test --n_workers 2 --do_print --path $$folder || exit 1; done
	OMP_NUM_THREADS=1 $(KERNELS) $(BIN)/python -m pytest $(FLOAT_TESTS) -q

fuzz: $(DEV)  ## 10,000 mutated input files; those that fail are kept in runs/fuzz_failures/
	OMP_NUM_THREADS=1 $(BIN)/python tools/fuzz.py --rounds 10000 --out runs/fuzz_failures

nbs: $(DEV)  ## execute every notebook in place, clean, export
	for nb in $(NOTEBOOKS); do OMP_NUM_THREADS=1 $(BIN)/jupyter-nbconvert --log-level ERROR \
		--to notebook --execute --inplace $$nb || exit 1; done
	$(BIN)/python tools/shrink_outputs.py $(NOTEBOOKS)
	$(BIN)/nbdev_clean
	$(BIN)/nbdev_export
	$(MAKE) readme

kills: $(DEV)  ## 20 kills, full disks and two processes in one folder, for every stage: some hours
	$(BIN)/python tests/kills.py --kills 20 --disks 3 --pairs 3

py: $(DEV)  ## editable py:percent copies of the notebooks in _py/
	$(BIN)/jupytext --sync $(NOTEBOOKS) nbs/experiments/*.ipynb

readme: $(DEV)  ## README.md from nbs/index.ipynb
	$(BIN)/python tools/make_readme.py

results: $(DEV)  ## the real runs whose tables the README shows; finished ones are not run again
	for name in $(RESULTS); do OMP_NUM_THREADS=1 $(BIN)/stouter run $$name --out runs/run/$$name/seed0 || exit 1; done
	$(foreach name,$(PAPER),OMP_NUM_THREADS=1 $(BIN)/stouter run $(name) -p preset paper $(PAPER_$(name)) \
		--out runs/run/$(name)_paper/seed0 &&) true
	for name in $(RESIDUALS); do OMP_NUM_THREADS=1 $(BIN)/stouter run $$name -p preset residuals \
		--out runs/run/$${name}_residuals/seed0 || exit 1; done
	$(BIN)/python tools/keep_results.py $(RESULTS:%=runs/run/%/seed0) $(PAPER:%=runs/run/%_paper/seed0) \
		$(RESIDUALS:%=runs/run/%_residuals/seed0)

constraints: $(VENV)/bin/python  ## constraints.txt from the newest versions within the bounds; then make test, and make results
	$(BIN)/pip install -q -U --upgrade-strategy eager -e ".[dev]"
	$(BIN)/python tools/make_constraints.py

dist: $(DEV)  ## wheel and sdist in dist/, installed into an environment of their own and run there
	$(BIN)/python -m build --outdir dist
	$(PYTHON) -m venv --clear dist/.venv
	dist/.venv/bin/pip install -q -c constraints.txt --only-binary :all: dist/*.whl
	cd dist && .venv/bin/stouter doctor && .venv/bin/stouter run tiny --out tiny

pretrained: $(DEV)  ## the trained models of the package, from real runs; the data of Milan lie in ../shared
	OMP_NUM_THREADS=1 $(BIN)/python tools/make_pretrained.py

docs: $(DEV)  ## the site, in _docs/
	$(BIN)/python tools/make_docs.py

lab: $(DEV)
	$(BIN)/jupyter-lab nbs

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(RUN): $(VENV)/bin/python settings.ini setup.py constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

$(DEV): $(VENV)/bin/python settings.ini setup.py constraints.txt
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@ $(RUN)

clean:
	rm -rf build dist *.egg-info _proc _docs
