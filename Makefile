# PHQ. `make` alone lists the targets.
PYTHON ?= python3
DEMO ?= demo-workspace
JSON ?=
OFFICIAL ?= 3DPortraitGAN

export UV_PYTHON_DOWNLOADS := never
export UV_PYTHON ?= $(PYTHON)
export JSON
# Tests and demos never call home.
export YOLO_OFFLINE := true
export HF_HUB_OFFLINE := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1
# Tests start hundreds of programs: what Python compiled once is kept, also where the environment forbids it.
export PYTHONDONTWRITEBYTECODE :=

# uv is used where it is installed; elsewhere it gets a small environment of its own.
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
export UV
SYNC = $(UV) sync --locked --quiet
RUN = .venv/bin
# As many processes test as there are cores, up to eight; each of them computes on one.
JOBS ?= $(shell $(PYTHON) -c "import os; print(min(8, len(getattr(os, 'sched_getaffinity', lambda _: range(os.cpu_count()))(0))))")
PYTEST = $(RUN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

.PHONY: help setup-demo setup-review setup-team setup demo accuracy accuracy-compare lint types lock schema-page clean wheels test-wheels release-software site \
    test pytest test-fast test-numerics test-pythons coverage fuzz chaos \
    bench-build bench-build-gpu bench-crowdnet bench-release bench-scale bench-fetch bench-deformation bench-step bench-official bench-gpu bench-loader bench-review bench-review-load bench-correct \
    learn learn-gpu learn-study

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.uv/bin/uv:
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check uv

uv.lock: uv.lock.in pyproject.toml tools/lock.py | $(filter .uv/bin/uv,$(UV))
	$(PYTHON) tools/lock.py restore

setup-demo: uv.lock ## Install what the embedded default needs (no torch)
	$(SYNC) --inexact

setup: uv.lock ## Install everything, for development
	$(SYNC) --all-packages --all-extras --group dev --inexact

setup-review: uv.lock ## Install the review with PostgreSQL (no torch)
	$(SYNC) --package phq-review --extra postgres --inexact

setup-team: uv.lock ## Install the flows, an object store's client and the review with PostgreSQL (no torch)
	$(SYNC) --package phq-flows --package phq-review --extra s3 --extra postgres --inexact

demo: setup-demo ## Build a small dataset from real and synthetic photos and show where to look
	$(RUN)/phq build --workspace $(DEMO) --runner inline --set part_size=6 samples synthetic:24
	$(RUN)/phq report --workspace $(DEMO)

accuracy: setup-demo ## Render 400 photos of known truth, label them, report the errors (JSON=1: as JSON)
	test -f accuracy-out/truth.parquet || $(RUN)/phq synthesize accuracy-out --count 400 --seed 101
	$(RUN)/phq build --workspace accuracy-out/workspace --runner inline accuracy-out/photos
	$(RUN)/phq accuracy --workspace accuracy-out/workspace --truth accuracy-out/truth.parquet $(if $(JSON),--json)

accuracy-compare: setup-demo ## Label 200 photos of known truth under several settings (JSON=1: as JSON)
	test -f accuracy-out/compare/truth.parquet || $(RUN)/phq synthesize accuracy-out/compare --count 200 --seed 101
	$(RUN)/phq accuracy ablate accuracy-out/compare/photos --truth accuracy-out/compare/truth.parquet \
	    --workspace accuracy-out/compare-workspace $(if $(JSON),--json)

test: setup lint ## Everything that must pass: lint, types, lock, tests
	@$(MAKE) --no-print-directory --jobs 2 types pytest  # mypy keeps one core busy only

lint: setup
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/python tools/lock.py check
	$(UV) lock --check --quiet

types: setup
	$(RUN)/mypy

pytest: setup ## All tests, a process for each of JOBS cores
	$(PYTEST) --durations=25

test-fast: setup ## Tests but those that are slow, train networks or drive a browser
	$(PYTEST) --durations=10 -m "not slow and not browser and not training"

test-numerics: setup ## Numerical tests with the CPU kernels of other processors, and beside busy programs
	$(RUN)/python tools/numerics.py -n $(JOBS) --dist loadfile

chaos: setup ## Kill programs, flip bits, count what is lost (KILLS=3 FLIPS=20 SEED=0; JSON=1 for one JSON line)
	$(RUN)/python -m benchmarks.chaos --kills $(or $(KILLS),3) --flips $(or $(FLIPS),20) --seed $(or $(SEED),0) $(if $(JSON),--json)

fuzz: setup ## Fuzz: damage input files at random, read them; no traceback, hang or waste of memory (SECONDS=600, SEED=0, INPUTS=100000 to stop there, JOBS=2 side by side; JSON=1 for one JSON line)
	$(RUN)/python -m benchmarks.fuzz --seconds $(or $(SECONDS),600) --seed $(or $(SEED),0) $(if $(INPUTS),--inputs $(INPUTS)) --jobs $(or $(JOBS),1) $(if $(JSON),--json)

test-pythons: ## test-fast with every Python of 3.11 to 3.13 that is here
	UV="$(UV)" PYTHON="$(PYTHON)" JOBS=$(JOBS) tools/test_pythons.sh

coverage: setup ## All tests, and which lines they reach
	$(PYTEST) --cov --cov-report=term --cov-report=html:coverage-out

bench-build: setup-demo ## Portraits a second, by stage, and peak memory (JSON=1 for one JSON line)
	$(RUN)/python -m benchmarks.build $(if $(JSON),--json)

bench-build-gpu: setup ## The same on a GPU, and the share of time it is busy (WORKERS=16; PHOTOS=400; DEVICE=cpu rehearses; JSON=1)
	$(RUN)/python -m benchmarks.build --device $(or $(DEVICE),cuda) --photos $(or $(PHOTOS),400) $(if $(WORKERS),--workers $(WORKERS)) $(if $(JSON),--json)

bench-crowdnet: setup ## People a second of 3DCrowdNet, batched against one by one (JSON=1 for one JSON line)
	$(RUN)/python -m benchmarks.crowdnet $(if $(JSON),--json)

bench-release: setup-demo ## Build, verify and diff 54,000 synthetic portraits (JSON=1 for one JSON line)
	$(RUN)/python -m benchmarks.release $(if $(JSON),--json)

bench-scale: setup ## How steps over a whole workspace grow with its rows (ROWS="10000 100000 1000000"; FOLDER=where to keep what is made; JSON=1 for one JSON line)
	$(RUN)/python -m benchmarks.scale --rows $(or $(ROWS),10000 100000) $(if $(FOLDER),--folder "$(FOLDER)") $(if $(JSON),--json)

bench-review: setup ## From key to next picture in a real browser, 5,000 and 100,000 portraits (JSON=1 for one JSON line)
	$(RUN)/python -m benchmarks.review $(if $(JSON),--json)

bench-review-load: setup ## 20 reviewers at a decision a second for two minutes (JSON=1 for one JSON line)
	$(RUN)/python -m benchmarks.review_load $(if $(JSON),--json)

bench-correct: setup ## A scripted curator corrects 50 turned labels of synthetic people, and of figures, in a real browser (FOLDER=where to keep what is built; JSON=1 for one JSON line)
	$(RUN)/python -m benchmarks.correct $(if $(FOLDER),--folder "$(FOLDER)") $(if $(JSON),--json)

bench-fetch: setup-demo ## Photos fetched, verified and hashed a second and core (JSON=1 for one JSON line)
	$(RUN)/python -m benchmarks.fetch $(if $(JSON),--json)

bench-deformation: setup ## Closest-face backends and their share of a render (JSON=1 for one JSON line)
	$(RUN)/python -m benchmarks.deformation

bench-step: setup ## One generator + discriminator step by part, against its plain form (JSON=1 for one JSON line)
	$(RUN)/python -m benchmarks.step

bench-official: setup ## The same beside the official modules: OFFICIAL=checkout (JSON=1 for one JSON line)
	$(RUN)/python -m benchmarks.step --against "$(OFFICIAL)" --device cpu --batch 1

bench-gpu: setup ## Eight minutes on a GPU: tests, sync check, iterations, training, deformation, loader (OUT=folder; TINY=1 rehearses)
	PYTHON=$(RUN)/python benchmarks/gpu_session.sh

bench-loader: setup ## Portraits a second and core from a release, against zips of PNGs (JSON=1 for one JSON line)
	$(RUN)/python -m benchmarks.loader

learn: setup ## Train three arms on rendered people of known truth, judge them on held-out ones (JSON=1 for one JSON line)
	$(RUN)/python -m benchmarks.learn --folder learn-out

learn-study: setup ## All arms of make learn, two kinds of errors, three seeds, in resumable pieces (DEVICE=cuda)
	$(RUN)/python -m benchmarks.learn_study --folder learn-study-out --device $(or $(DEVICE),cpu)

learn-gpu: setup ## The same with a larger model on one GPU; are learned poses better than the labels?
	$(RUN)/python -m benchmarks.learn --folder learn-gpu-out --device cuda --processes 1 --kimg 120 --portraits 6000 --arms self-learned

schema-page: setup-demo ## Write docs/schema.md, the reference of tables and columns, from schema.py
	$(RUN)/python tools/schema_page.py

wheels: setup ## Build the wheels of all packages into dist, check them, print their sizes
	$(RUN)/python tools/wheels.py build

test-wheels: wheels ## Install the wheels into empty environments, do the quick start (INSTALLER=pip: with pip, minutes)
	TEST_WHEELS=$(or $(INSTALLER),uv) $(RUN)/pytest tests/wheels --durations=5

release-software: setup ## Try the release of the version in development; APPLY=1 commits and tags it
	$(RUN)/python tools/release_software.py $(if $(APPLY),apply)

site: setup ## Build the documentation site into site-out/html, notebooks executed (PAGES=1: without them, seconds)
	$(RUN)/python tools/docs_site.py $(if $(PAGES),html)

lock: ## Resolve the dependencies anew and save the lock
	$(UV) lock
	$(PYTHON) tools/lock.py save

clean: ## Remove what the targets made
	rm -rf .venv .venv-* .uv uv.lock dist site-out $(DEMO) accuracy-out learn-out learn-gpu-out learn-study-out fuzz-out coverage-out .coverage .pytest_cache .mypy_cache .ruff_cache
