# Every command sets up what it needs by itself; nothing is done twice when nothing changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FILES ?=
# pytest-xdist: three workers for 2 cores, because tests with stacks wait as much as they work.
WORKERS ?= 3

.PHONY: env test-env demo up test test-full lint bench layers synth fuzz soak lock clean
.PHONY: conformance-localstack bootstrap deploy destroy smoke
.DEFAULT_GOAL := help

help:
	@echo "make demo [FILES=\"a.tif b/\"]  the whole system on this machine, with real files"
	@echo "make test | test-full          every check at its smallest size | at full size"
	@echo "make layers | synth            Lambda layers in build/layers/ | CloudFormation templates in cdk.out/"
	@echo "make deploy | smoke | destroy  a stage of infra/stages in your account: STAGE=default"
	@echo "make fuzz                      every own parser under a fuzzer, a minute each"
	@echo "make soak                      clients at work in bad weather, SOAK_MINUTES long"
	@echo "make env | up | bench | lock   environment | local stack | measurements | refresh the locks"

# The environment: plain pip with hashes. The stamp names the lock it was made from.
$(VENV)/.run: requirements/run.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/run.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e .
	@# The functions' children never write byte code, so a cold start would compile the layer each time.
	$(BIN)/python -m compileall -q layers/heavylift/python
	@touch $@

$(VENV)/.test: requirements/test.lock $(VENV)/.run
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/test.lock
	@touch $@

# The CDK app: a quarter of a gigabyte, so apart from the rest.
$(VENV)/.infra: requirements/infra.lock $(VENV)/.run
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/infra.lock
	@touch $@

env: $(VENV)/.run
test-env: $(VENV)/.test

demo: $(VENV)/.run
	@$(BIN)/python -m heavylift_local.demo $(FILES)

up: $(VENV)/.run
	@$(BIN)/heavylift up

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint $(VENV)/.infra
	bash tests/system_packages.sh
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not full"

test-full: lint $(VENV)/.infra
	bash tests/system_packages.sh
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not full"
	$(BIN)/python -m pytest -m full --timeout 7200

# The suite that judges the own S3, and the end-to-end tests, against LocalStack: an environment of its own, loopback only.
LOCALSTACK := .venv-localstack
$(LOCALSTACK)/.ready: requirements/localstack.lock $(VENV)/.test
	@test -x $(LOCALSTACK)/bin/python || $(PYTHON) -m venv $(LOCALSTACK)
	$(LOCALSTACK)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/localstack.lock
	$(BIN)/python -m tests.conformance.localstack patch $(LOCALSTACK)
	@touch $@

conformance-localstack: $(LOCALSTACK)/.ready
	bash tests/system_packages.sh
	CONFORMANCE_TARGET=localstack $(BIN)/python -m pytest tests/conformance
	$(BIN)/python -m tests.conformance.localstack run \
		$(BIN)/python -m pytest tests/interop -m "not full" --s3-endpoint {endpoint}

bench: $(VENV)/.test
	@for script in bench/bench_*.py; do $(BIN)/python $$script || exit 1; done

# A file of infra/stages/: what is synthesised, deployed, taken down and tested.
STAGE ?= default

# CloudFormation templates of the whole system in cdk.out/: no account, no network, no Docker.
synth: $(VENV)/.infra
	@$(BIN)/python infra/app.py --stage $(STAGE)

# What the CDK wants in an account and region before anything else, once.
bootstrap: $(VENV)/.infra
	@$(BIN)/python -m infra.deploy bootstrap --stage $(STAGE)

# Into the account that the shell's credentials are of; wants `make layers` first, and says so.
deploy: $(VENV)/.infra
	@$(BIN)/python -m infra.deploy deploy --stage $(STAGE)

destroy: $(VENV)/.infra
	@$(BIN)/python -m infra.deploy destroy --stage $(STAGE)

# The demo's files through a stage that is deployed.
smoke: $(VENV)/.infra
	@$(BIN)/python -m infra.smoke --stage $(STAGE) $(FILES)

$(VENV)/.fuzz: requirements/fuzz.lock $(VENV)/.run
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/fuzz.lock
	@touch $@

# Every own parser under a coverage-guided fuzzer, FUZZ_SECONDS each; fuzz/README.md.
FUZZ_SECONDS ?= 60
TARGETS ?=
fuzz: $(VENV)/.fuzz
	@$(BIN)/python fuzz/run.py --seconds $(FUZZ_SECONDS) $(TARGETS)

# Third-party packages as Lambda layers in build/layers/, from requirements/run.lock: plain pip, no Docker.
# ARCHITECTURE=x86_64 for functions that run on that.
ARCHITECTURE ?= arm64
layers: $(VENV)/.run
	@$(BIN)/python -m layers.build --architecture $(ARCHITECTURE)

# Clients, kills and lost events for a while, then an inspection; soak/README.md.
SOAK_MINUTES ?= 20
SOAK_SEED ?= 1
soak: $(VENV)/.test
	@$(BIN)/python -m soak.run --minutes $(SOAK_MINUTES) --seed $(SOAK_SEED)

# Refreshing the locks is the only command that wants uv.
UV_COMPILE = uv pip compile pyproject.toml --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-emit-index-url --no-annotate --no-header -q
RUN_EXTRAS = --extra base --extra image --extra detect --extra dicom --extra tables --extra client --extra local --extra build
lock:
	$(UV_COMPILE) $(RUN_EXTRAS) --extra test -o requirements/test.lock
	$(UV_COMPILE) $(RUN_EXTRAS) -c requirements/test.lock -o requirements/run.lock
	$(UV_COMPILE) --extra infra -c requirements/test.lock -o requirements/infra.lock
	$(UV_COMPILE) --extra fuzz -c requirements/test.lock -o requirements/fuzz.lock

clean:
	rm -rf $(VENV) build cdk.out .pytest_cache .mypy_cache .ruff_cache .hypothesis
