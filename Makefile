# Needs make and Python 3.11 to 3.13; everything else goes into .venv. `make` alone lists the targets.

SHELL = /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Set on the command line, as in `make evaluate DATA=my_data JSON=out.json ARGS='--country DE --keep run'`.
SUBMISSION = submission
DATA = $(if $(filter fbc1,$(COMPETITION)),sample_input/fbc1,sample_input)
COMPETITION = fbc2
JSON = scores.json
MODEL = 2.7B-FBC2
SEED = 7
CACHE = weights
PROCESSES = 2
ASSETS = evaluator/assets
RUNNER = auto
ZIP = submission.zip
CONFIG = submission/training/configs/demo.yaml
TAG = fusionbrain/fbc2:latest
SERVICE_TAG = fusionbrain/service:latest
DEVICE = gpu
BASE_IMAGE =
CONTEXT = docker
# The user of a run, in image and evaluator.
UID = $(shell sed -n 's/^UID = //p' evaluator/sandbox/docker.py)
WHEELS = docker/wheels
# PyPI has torch's CUDA build alone. A machine that sets pip's own PIP_FIND_LINKS has the CPU build there.
TORCH_CPU = $(or $(PIP_FIND_LINKS),https://download.pytorch.org/whl/cpu/torch/)
RUN = build/finetune-demo
SEASON = season.toml
URL = http://127.0.0.1:8000
OUT = build/site
ARGS =

# The leaderboard's comes first.
PYTHONS = python3.11 python3.12 python3.13 python3 python
SUITABLE = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in $(PYTHONS); do "$$p" -c '$(SUITABLE)' 2>/dev/null && echo "$$p" && break; done)
VENV = .venv/bin/python
# Versions without hashes: torch's CPU build and its CUDA build, with all that it brings, differ, and machines have either.
# The image's lock files in docker/ have hashes.
PIP = $(VENV) -m pip --disable-pip-version-check install --constraint requirements.txt
INSTALLED = .venv/.installed
INSTALLED_DEV = .venv/.installed-dev
INSTALLED_SEASON = .venv/.installed-web
INSTALLED_RAY = .venv/.installed-ray
INSTALLED_TRAIN = .venv/.installed-train

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: evaluate
evaluate: $(INSTALLED) ## run SUBMISSION=submission on DATA=sample_input, score it as COMPETITION=fbc2 does; or fbc1; JSON=scores.json, RUNNER=auto
	$(VENV) -m evaluator run "$(SUBMISSION)" --data "$(DATA)" --competition "$(COMPETITION)" \
	    --runner "$(RUNNER)" --json "$(JSON)" $(ARGS)

.PHONY: pack-submission
pack-submission: $(INSTALLED) ## pack SUBMISSION=submission into ZIP=submission.zip, without training code; ARGS=--force
	$(VENV) -m evaluator pack "$(SUBMISSION)" "$(ZIP)" $(ARGS)

.PHONY: check-submission
check-submission: $(INSTALLED) ## look at ZIP=submission.zip before it is sent: sizes, names, metadata.json
	$(VENV) -m evaluator check "$(ZIP)" --competition "$(COMPETITION)" $(ARGS)

.PHONY: test-submission
test-submission: $(INSTALLED) ## check ZIP=submission.zip, run it on DATA=sample_input in the real limits, score it
	$(VENV) -m evaluator check "$(ZIP)" --competition "$(COMPETITION)"
	$(VENV) -m evaluator run "$(ZIP)" --data "$(DATA)" --competition "$(COMPETITION)" \
	    --runner "$(RUNNER:auto=engine)" --json "$(JSON)" $(ARGS)

# The token comes from FBC_TOKEN or a file, never from here.
.PHONY: send
send: $(INSTALLED) ## check ZIP=submission.zip and send it to a season, URL=http://127.0.0.1:8000; ARGS=--wait for its verdict
	$(VENV) -m evaluator send "$(ZIP)" --url "$(URL)" $(ARGS)

.PHONY: doctor
doctor: $(INSTALLED) ## look whether this machine can run submissions: engine, image TAG, GPU, driver, memory, disk
	$(VENV) -m evaluator doctor --image "$(TAG)"

# One thread a worker, as threads of several would wait for each other. Bytecode is kept where the machine says otherwise:
# hundreds of processes import the same modules. All tests run four at a time, also on two cores, since many wait for
# containers; the quick ones wait for nothing.
TESTING = OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(VENV) -m pytest --dist worksteal

.PHONY: test
test: $(INSTALLED_DEV) ## run all tests; ARGS='-k vqgan' for some
	$(TESTING) -n 4 $(ARGS)

# What is computed, without processes, containers, browsers, clusters or training.
QUICK = $(addprefix tests/evaluator/,competition core data metrics package scoring) tests/submission/rudolph \
    tests/submission/test_contract.py

.PHONY: test-quick
test-quick: $(INSTALLED_DEV) ## run the tests that take less than a minute together, while writing; ARGS as above
	$(TESTING) -n 2 -m "not slow and not docker" $(QUICK) $(ARGS)

.PHONY: check
check: $(INSTALLED_DEV) ## ruff, mypy and import-linter
	$(VENV) -m ruff check
	$(VENV) -m mypy
	PYTHONPATH=.:submission .venv/bin/lint-imports --no-logo --no-cache

.PHONY: train-nano
train-nano: $(INSTALLED) ## train the weights of submission/weights/nano anew (takes hours; ARGS=--help)
	cd submission && ../$(VENV) -m training.nano.train --stage bpe --stage vqgan $(ARGS)
	cd submission && OMP_NUM_THREADS=1 ../.venv/bin/torchrun --nproc-per-node $(PROCESSES) \
	    -m training.nano.train --stage decoder $(ARGS)
	cd submission && ../$(VENV) -m training.nano.train --stage ship $(ARGS)

.PHONY: train-fbc1
train-fbc1: $(INSTALLED) ## train the weights of submission/weights/fbc1 anew, and a model for each task to compare with (takes hours)
	cd submission && ../$(VENV) -m training.fbc1.train $(ARGS)
	cd submission && ../$(VENV) -m training.fbc1.compare $(ARGS)

.PHONY: bars
bars: $(INSTALLED) ## what nano reaches on 500 fresh held-out examples a task, SEED=7; 'ARGS=--n 50' for fewer
	cd submission && ../$(VENV) -m training.nano.bars --seed "$(SEED)" $(ARGS)

.PHONY: showcase
showcase: $(INSTALLED) ## the pictures and answers of docs/nano anew, after other weights are shipped
	cd submission && ../$(VENV) -m training.nano.showcase --out ../docs/nano

.PHONY: finetune
finetune: $(INSTALLED_TRAIN) ## fine-tune as CONFIG=submission/training/configs/demo.yaml says; an interrupted run goes on
	$(VENV) submission/finetune.py "$(CONFIG)" $(ARGS)

.PHONY: co2-report
co2-report: $(INSTALLED_TRAIN) ## plots, tables and page of a training run's CO2, RUN=build/finetune-demo, into its folder co2/
	$(VENV) -m evaluator co2-report "$(RUN)" $(ARGS)

.PHONY: bench-evaluator
bench-evaluator: $(INSTALLED) ## seconds of the text metrics beside a word-by-word version, then where the time of score goes (ARGS are of the second)
	OMP_NUM_THREADS=1 $(VENV) -m evaluator.tools.bench_metrics
	OMP_NUM_THREADS=1 $(VENV) -m evaluator.tools.bench_scoring $(ARGS)

.PHONY: bench
bench: $(INSTALLED) ## time the engine beside the published algorithm (10 minutes); ARGS='--preset 9M --batch 8'
	cd submission && ../$(VENV) -m benchmark $(ARGS)

.PHONY: gpu-check
gpu-check: $(INSTALLED_TRAIN) ## check and measure all that says GPU on this machine's (8 minutes; docs/gpu.md)
	cd submission && ../$(VENV) -m benchmark.gpu $(ARGS)

.PHONY: gpu-check-pack
gpu-check-pack: $(INSTALLED) ## one folder with what gpu-check needs, for another machine: build/gpu-check-pack
	cd submission && ../$(VENV) -m benchmark.gpu.pack ../build/gpu-check-pack $(ARGS)

.PHONY: season-tools
season-tools: $(INSTALLED_SEASON) ## install what the commands of a season need (docs/season.md)

.PHONY: site
site: $(INSTALLED_SEASON) ## write the pages of SEASON=season.toml into OUT=build/site; ARGS=--private when the season is over
	$(VENV) -m evaluator site --season "$(SEASON)" --out "$(OUT)" $(ARGS)

.PHONY: serve
serve: $(INSTALLED_SEASON) ## serve SEASON=season.toml to teams and organizers (docs/serving.md); ARGS='--port 8080'
	$(VENV) -m evaluator season serve --season "$(SEASON)" $(ARGS)

.PHONY: season-ray
season-ray: $(INSTALLED_RAY) ## install what a season's queue on many machines needs (docs/scaling.md)

.PHONY: season-demo
season-demo: $(INSTALLED_SEASON) ## play a season of 30 teams and 14 days through, into build/season-demo; an interrupted one goes on
	$(VENV) -m evaluator.tools.simulated_season.simulate $(ARGS)

.PHONY: bench-neighbour
bench-neighbour: $(INSTALLED) ## time run.py quiet, beside a busy process, two at once, on one CPU; ARGS='--rounds 3'
	cd submission && ../$(VENV) -m benchmark.neighbour $(ARGS)

.PHONY: bench-season
bench-season: $(INSTALLED_SEASON) ## seconds of boards, site and ledger with 10 000 submissions; ARGS='--url postgresql://...'
	$(VENV) -m evaluator.tools.bench_season $(ARGS)

.PHONY: bench-serve
bench-serve: $(INSTALLED_SEASON) ## the service while 300 teams send at once and others mean ill (4 minutes); ARGS='--teams 50'
	$(VENV) -m evaluator.tools.bench_serve $(ARGS)

.PHONY: bench-runs
bench-runs: $(INSTALLED_SEASON) ## seconds that a run takes beyond the submission's own; ARGS='--padding 1000000000 --ray auto'
	$(VENV) -m evaluator.tools.bench_runs $(ARGS)

.PHONY: sample-input
sample-input: $(INSTALLED) ## rebuild sample_input/ from its sources
	PYTHONPATH=submission $(VENV) sample_input/build.py $(ARGS)

.PHONY: sample-input-fbc1
sample-input-fbc1: $(INSTALLED) ## rebuild sample_input/fbc1/ from its seeds
	PYTHONPATH=submission $(VENV) sample_input/fbc1/build.py $(ARGS)

.PHONY: weights
weights: $(INSTALLED) ## fetch published weights, MODEL=2.7B-FBC2, into CACHE=weights; an interrupted run goes on
	PYTHONPATH=submission $(VENV) -m rudolph.weights --model "$(MODEL)" --cache "$(CACHE)"

.PHONY: assets
assets: $(INSTALLED) ## fetch and record the leaderboard's encoders, RuWordNet and CodeBLEU's grammar into ASSETS=evaluator/assets
	$(VENV) -m evaluator.metrics.assets fetch --folder "$(ASSETS)"

.PHONY: assets-check
assets-check: $(INSTALLED) ## compare the files in ASSETS=evaluator/assets with the SHA-256 in their lock file
	$(VENV) -m evaluator.metrics.assets check --folder "$(ASSETS)"

.PHONY: build
build: ## build the image TAG=fusionbrain/fbc2:latest; DEVICE=cpu, BASE_IMAGE=..., OFFLINE=1 from docker/wheels
	cp submission/rudolph/native.cpp submission/rudolph/native_build.py "$(CONTEXT)"
	docker build --tag "$(TAG)" --build-arg DEVICE="$(DEVICE)" --build-arg UID="$(UID)" \
	    $(if $(BASE_IMAGE),--build-arg BASE_IMAGE="$(BASE_IMAGE)") \
	    $(if $(OFFLINE),--network none --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/wheels, \
	        $(if $(filter cpu,$(DEVICE)),--build-arg PIP_FIND_LINKS="$(TORCH_CPU)")) \
	    --build-arg VERSION="$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" \
	    --build-arg COMMIT="$$(git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || echo unknown)" \
	    $(ARGS) "$(CONTEXT)"

# Its base is the image TAG.
.PHONY: build-service
build-service: CONTEXT = .
build-service: ## build the image SERVICE_TAG of a season's service and queue (docs/serving.md), on TAG; OFFLINE=1 from docker/wheels
	docker build --tag "$(SERVICE_TAG)" --file "$(CONTEXT)/docker/service.Dockerfile" \
	    --build-arg BASE_IMAGE="$(TAG)" \
	    $(if $(OFFLINE),--network none --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/wheels) \
	    $(ARGS) "$(CONTEXT)"

# A shell as a run has it, but for its limits, with all GPUs, and with what a ZIP leaves out.
.PHONY: interact-container
interact-container: ## a shell in the image TAG, with SUBMISSION and DATA where a run has them
	@mkdir -p "$(SUBMISSION)/output"
	docker run --rm -i $$(test -t 0 && echo -t) $$(nvidia-smi -L >/dev/null 2>&1 && echo --gpus all) \
	    --network none --read-only --cap-drop ALL --security-opt no-new-privileges --init --user $(UID):$(UID) \
	    --tmpfs /tmp:exec,mode=1777 --env TMPDIR=/tmp \
	    --shm-size "$$(sed -n 's/^shm = "\([^"]*\)".*/\1/p' evaluator/core/limits.toml)" \
	    --tmpfs /work/submission/output:uid=$(UID),gid=$(UID) --workdir /work/submission \
	    --volume "$(abspath $(SUBMISSION)):/work/submission:ro" \
	    --volume "$(abspath $(DATA))/input.json:/work/input/input.json:ro" \
	    --volume "$(abspath $(DATA))/images:/work/input/images:ro" \
	    $(ARGS) "$(TAG)" bash

.PHONY: wheels
wheels: $(INSTALLED) ## fetch the images' packages, DEVICE=gpu, into WHEELS=docker/wheels for OFFLINE=1
	$(VENV) -m pip --disable-pip-version-check download --no-deps --no-build-isolation --require-hashes \
	    $(if $(filter cpu,$(DEVICE)),--find-links "$(TORCH_CPU)") --dest "$(WHEELS)" \
	    -r docker/requirements.build.lock -r "docker/requirements.$(DEVICE).lock" -r docker/requirements.web.lock

UV_COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" $(VENV) -m uv pip compile --quiet --no-annotate --no-build-isolation
# What the image gets, with the SHA-256 of each file. Another build of torch, by UV_ARGS, has other CUDA packages.
UV_COMPILE_IMAGE = $(if $(UV_ARGS),grep -Ev '^(cuda|nvidia)-',cat) requirements.txt | $(UV_COMPILE) \
    --constraint /dev/stdin --generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_28

.PHONY: lock
lock: $(INSTALLED) ## write requirements.txt and docker/*.lock from pyproject.toml; ARGS=--upgrade for newer versions
	$(PIP) uv==0.13.9
	$(UV_COMPILE) pyproject.toml --all-extras --universal --python-version 3.11 $(ARGS) --output-file requirements.txt
	$(UV_COMPILE_IMAGE) docker/requirements.build.in --output-file docker/requirements.build.lock
	$(UV_COMPILE_IMAGE) pyproject.toml $(UV_ARGS) --output-file docker/requirements.gpu.lock
	$(UV_COMPILE_IMAGE) pyproject.toml --constraint docker/requirements.cpu.in --find-links "$(TORCH_CPU)" \
	    --output-file docker/requirements.cpu.lock
	$(UV_COMPILE_IMAGE) pyproject.toml --extra web \
	    $$(sed -n 's/^\([a-z0-9.-]*\)==.*/--no-emit-package \1/p' docker/requirements.gpu.lock) \
	    --output-file docker/requirements.web.lock

.PHONY: clean
clean: ## remove .venv, caches, the image's wheels, scores.json, report.html and submission.zip; fetched weights stay
	rm -rf .venv *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis scores.json report.html submission.zip
	rm -rf docker/wheels/*
	find docker evaluator sample_input submission tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The decoder for CPUs is built beside the packages. youtokentome's build needs Cython and cannot say so: hence the first install, and --no-build-isolation.
$(INSTALLED): requirements.txt submission/rudolph/native.cpp submission/rudolph/native_build.py
	@test -n "$(PYTHON)" && "$(PYTHON)" -c '$(SUITABLE)' 2>/dev/null || { \
	    echo "Python 3.11, 3.12 or 3.13 is needed; found:"; \
	    for p in $(or $(PYTHON),$(PYTHONS)); do \
	        echo "  $$p: $$("$$p" --version 2>/dev/null || echo not found)"; done; \
	    echo "Install it, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; } >&2
	@$(VENV) -c 'import pip; $(SUITABLE)' 2>/dev/null || { \
	    echo "creating .venv with $$("$(PYTHON)" --version) ($(PYTHON))"; "$(PYTHON)" -m venv --clear .venv; }
	$(PIP) -r docker/requirements.build.lock
	$(PIP) --no-build-isolation --editable .
	$(VENV) submission/rudolph/native_build.py
	@touch $@

# The extras of pyproject.toml: web (which has season), ray, train, dev.
.venv/.installed-%: $(INSTALLED)
	$(PIP) --no-build-isolation --editable ".[$*]"
	@touch $@
