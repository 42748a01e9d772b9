# `make` lints, checks types and runs the tests; `make serve` serves. `make help` lists the rest.
# Settings are variables: make serve MODEL=llama3.2 PORT=8080
# Paths and addresses reach the shell as its own variables ("$$OUT"), so that they may contain any character.

.DEFAULT_GOAL := all
.PHONY: all serve unit coverage test e2e lint types bench image render demo load compare-reports ramp-comparison \
	real-ramp balancing judging autoscale endurance plan plan-validate models tune chaos hold synth diff deploy destroy \
	doctor access github cost bill help stage node sync uv

PYTHON ?= python3
TAG ?= sluice
BUILD_OPTIONS ?=
SYNC ?=
CACHE := $(or $(SLUICE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/sluice)

# uv from PATH if it is new enough to read uv.lock, else one of our own in the cache.
OWN_UV := $(CACHE)/uv-0.13.9
PATH_UV := $(shell uv --version 2>/dev/null | awk '{ split($$2, v, "."); if (v[1] > 0 || v[2] >= 9) exit 0; exit 1 }' && command -v uv)
export UV := $(or $(PATH_UV),$(OWN_UV)/bin/uv)
RUN := $(UV) run --no-sync
unexport PYTHONDONTWRITEBYTECODE # where it is set, each of hundreds of programs would compile all that it imports
CDK := npx --no-install cdk
# Until cdk.json says whose Sluice this is, `make synth` shows an example's.
OWNER = $(shell $(PYTHON) -c 'import json; print(json.load(open("cdk.json"))["context"]["account"])')
EXAMPLE := account=123456789012 region=eu-central-1 github_owner=example github_owner_id=1 github_repository=sluice \
	github_repository_id=1 admin_arns=arn:aws:iam::123456789012:role/Admin

# Ends make unless each of these variables is set: $(call need,STAGE TARGET)
need = $(foreach name,$1,$(if $($(name)),,$(error $(name) is missing: make $@ $(name)=…)))

all: lint types test ## Lint, types and tests: what CI runs

serve: uv ## Serve a model at http://localhost:5000, installing what is missing
	@$(UV) sync --locked --inexact --no-default-groups --group release
	@exec .venv/bin/python -m launcher

unit: sync ## Run the tests that need only Python and git, in a minute or two
	$(RUN) pytest -m unit -n auto --dist loadfile

coverage: sync ## Run the same tests, and list the lines that they don't reach
	$(RUN) pytest -m unit -n auto --dist loadfile --cov --cov-report term-missing:skip-covered

test: sync node_modules ## Run the tests; CI=true fails those whose tools are missing instead of skipping them
	$(RUN) pytest --ignore tests/e2e -n auto --dist loadfile --no-loadscope-reorder

e2e: sync ## Run the tests on a real cluster: kind, or what CLUSTER_UP=.../up starts
	$(or $(CLUSTER_UP),local_cluster/kind/up)
	$(RUN) pytest tests/e2e -n 2 --dist loadfile

lint: sync ## Check style and format
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: sync ## Check types
	$(RUN) mypy

bench: sync ## Measure, and write docs/benchmarks.md
	@$(RUN) python -m loadtest.bench

image: ## Build the container image as TAG
	docker build $(BUILD_OPTIONS) -f service/Dockerfile -t $(TAG) .

render: stage node sync ## Render STAGE's manifests with IMAGE and WEIGHTS (digests; of several models MODEL=DIGEST) into OUT
	$(call need,IMAGE WEIGHTS OUT)
	@$(RUN) python -m cdk8s_manifests --stage $(STAGE) --image $(IMAGE) --weights "$$WEIGHTS" --out "$$OUT"

demo: node sync ## Show the whole loop on a local cluster: kind, or what CLUSTER_UP=.../up starts
	@$(RUN) python -m local_cluster.demo

load: sync ## Measure TARGET with SCENARIO (docs/load.md), and write loadtest/reports/SCENARIO
	$(call need,SCENARIO TARGET)
	@$(RUN) python -m loadtest run --scenario "$$SCENARIO" --target "$$TARGET" \
		$(if $(MODEL),--model "$$MODEL") $(if $(STAGE),--stage $(STAGE)) $(OPTIONS)

compare-reports: sync ## Say whether report B is worse than report A by more than noise
	$(call need,A B)
	@$(RUN) python -m loadtest compare "$$A" "$$B" $(OPTIONS)

ramp-comparison: node sync ## Run the ramp against REPLICAS pods of Sluice and of what others build, on a local cluster
	@$(RUN) python -m loadtest.experiments comparison --replicas $(or $(REPLICAS),4) $(OPTIONS)

real-ramp: sync ## Run the ramp against the naive app, Ollama and Sluice with a real model, on this machine
	@$(RUN) python -m loadtest.experiments real-ramp $(OPTIONS)

balancing: node sync ## Compare ways to choose a pod, on a local cluster
	@$(RUN) python -m loadtest.experiments balancing $(OPTIONS)

judging: sync ## Have good and bad releases judged, and count which are taken back
	$(RUN) python -m loadtest.experiments judging $(OPTIONS)

autoscale: node sync ## Compare autoscalers on one load, on a local cluster with KEDA
	@$(RUN) python -m loadtest.experiments autoscaling $(OPTIONS)

endurance: node sync ## Run SCENARIO, soak or stress, against Sluice on a local cluster
	$(call need,SCENARIO)
	@$(RUN) python -m loadtest.experiments endurance $(SCENARIO) $(OPTIONS)

plan: sync ## Say how many replicas of which instance a load needs (docs/planning.md)
	@$(RUN) python -m planning plan $(if $(OWNER),,--region eu-central-1) $(OPTIONS)

plan-validate: sync ## Compare measured queues with predicted ones
	@$(RUN) python -m planning validate $(OPTIONS)

models: sync ## Compare MODELS, by their names in Ollama (docs/models.md)
	@$(RUN) python -m loadtest.models $$MODELS $(if $(STAGE),--stage $(STAGE)) $(if $(OWNER),,--region eu-central-1) $(OPTIONS)

tune: sync ## Find the slots and CPUs that serve MODEL best here, for SLO_FIRST_TOKEN (s) and SLO_TOKENS (tokens/s each)
	$(call need,MODEL SLO_FIRST_TOKEN SLO_TOKENS)
	@$(RUN) python -m tuning --model "$$MODEL" --slo-first-token $(SLO_FIRST_TOKEN) --slo-tokens $(SLO_TOKENS) \
		$(if $(STAGE),--stage $(STAGE)) $(OPTIONS)

chaos: sync ## Break things under load, and say what callers saw: docs/reliability.md; CLUSTER=yes on a cluster
	@$(RUN) python -m chaos $(if $(CLUSTER),cluster,breaks --real) --publish $(OPTIONS)

hold: sync ## Measure what honest callers get while thousands of slow ones are connected; TARGET=docker or cluster
	@$(RUN) python -m chaos hold --target $(or $(TARGET),gateway) --publish $(OPTIONS)

synth: stage sync node_modules ## Synthesise STAGE's stacks into cdk.out, without AWS
	$(CDK) synth --quiet -c stage=$(STAGE) $(if $(OWNER),,$(addprefix -c ,$(EXAMPLE)))

diff: stage sync node_modules ## Show what a deployment of STAGE would change
	$(CDK) diff -c stage=$(STAGE)

deploy: stage sync node_modules ## Build STAGE on AWS, or bring it up to date
	$(CDK) deploy --all -c stage=$(STAGE)

destroy: stage sync node_modules ## Take STAGE down; what stages share stays
	$(CDK) destroy 'sluice-$(STAGE)-*' -c stage=$(STAGE)

github: ## Set GitHub's rules, environments and keys; CHECK=yes says what is missing, REVIEWS=0 is for one person alone
	@$(PYTHON) -m delivery.github $(if $(CHECK),--check) $(if $(REVIEWS),--reviews $(REVIEWS))

doctor: stage sync ## Find what keeps STAGE from being deployed, or from working
	@$(RUN) python -m delivery.doctor --stage $(STAGE)

access: stage sync ## Open a way to STAGE's cluster until Ctrl-C, for kubectl and Argo CD's page
	@$(RUN) python -m delivery.access --stage $(STAGE) $(OPTIONS)

cost: stage sync ## Say what STAGE costs a month, and a thousand answers
	@$(RUN) python -m cost --stage $(STAGE) $(if $(OWNER),,--region eu-central-1) $(OPTIONS)

bill: stage sync ## Say who used what of STAGE, FROM a time TO another, by the pods' log lines in FILES or on stdin
	@$(RUN) python -m cost.bill --stage $(STAGE) $(if $(FROM),--from "$$FROM") $(if $(TO),--to "$$TO") \
		$(if $(OWNER),,--region eu-central-1) $(FILES) $(OPTIONS)

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

stage:
	@$(if $(STAGE),,$(error STAGE is missing: make $(MAKECMDGOALS) STAGE=dev))

node:
	@command -v node >/dev/null || { echo "sluice: Node.js is missing: install version 22 or newer" >&2; exit 1; }

sync: uv
	@$(UV) sync --locked $(SYNC)

node_modules: package-lock.json
	npm ci --ignore-scripts --no-audit --no-fund
	@touch node_modules

uv: $(if $(PATH_UV),,$(OWN_UV)/bin/uv)

$(OWN_UV)/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "sluice: $(PYTHON) is missing or older than 3.11: install a newer one, or set PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "sluice: $(PYTHON) has no venv: install it (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "installing uv into $(OWN_UV) …"
	@$(PYTHON) -m venv --clear $(OWN_UV)
	@$(OWN_UV)/bin/pip install --quiet --disable-pip-version-check --require-hashes \
		-r service/requirements-uv.txt || { rm -rf $(OWN_UV); exit 1; }
