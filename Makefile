# The single entry for people and CI: `make help`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# The version of ansible-core to work with; each has its environment (tests/ansible_core.sh).
ANSIBLE ?= 2.19
venv := $(if $(filter 2.19,$(ANSIBLE)),.venv,.cache/ansible-$(ANSIBLE))
export PATH := $(CURDIR)/$(venv)/bin:$(PATH)
export GPUFLEET_CACHE ?= $(HOME)/.cache/gpufleet
# Wide lines of test output stay whole.
export MOLECULE_COMMAND_BORDERS := false
# Every Python below writes its bytecode: starts are slow without it.
unexport PYTHONDONTWRITEBYTECODE
step := molecule/test_hosts/step.sh
SCENARIO ?= default
BENCH ?= recovery
demo_inventory := inventories/local
# The chat app is tested in an environment built from its own lock.
chat_python := .cache/chat-venv/bin/python
# So are the program that sends alerts, and what draws the results of measurements.
alert_python := .cache/alert-venv/bin/python
plot_python := .cache/bench-venv/bin/python

.PHONY: help
help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo "  SCENARIO=name chooses a scenario of molecule/ for 'make molecule'"
	@echo "  BENCH=name chooses a measurement of tests/bench for 'make bench'"
	@echo "  ANSIBLE=2.21 chooses that ansible-core for 'make unit', 'make sanity' and 'make molecule'"

.PHONY: setup
setup: ## Install what the demo and the tests need on this machine
	@$(step) "Set up this machine" molecule/test_hosts/setup.sh

.PHONY: tools
tools: # The part of it that needs no test host
	@$(step) "Install the development tools" tests/dev_tools.sh

.PHONY: demo
demo: setup ## Roll the stack out to a test host and print where to chat
	@$(step) "Boot the test host" ansible-playbook -i $(demo_inventory) molecule/test_hosts/create.yml
	@$(step) "Roll out (site.yml)" ansible-playbook -i $(demo_inventory) site.yml
	@echo
	@echo "  Chat:   http://localhost:8080/"
	@echo "  API:    http://localhost:8080/v1   (curl http://localhost:8080/v1/models)"
	@echo "  Host:   ssh -i $(GPUFLEET_CACHE)/ssh/id_ed25519 root@10.89.87.10"
	@echo "  Again:  make demo          Remove: make clean"

.PHONY: stop
stop: ## Stop the test hosts; make demo starts the demo's again
	@molecule/test_hosts/stop.sh

.PHONY: test
test: setup stop ## Run every check
	@$(step) "Set up ansible-core 2.19 and 2.21" tests/ansible_core.sh 2.19 2.21
	@$(step) "Lint" $(MAKE) --no-print-directory lint
	@$(step) "Images of the test hosts, and their model" ansible-playbook -i molecule/gateway/inventory molecule/test_hosts/create.yml --tags always
	@$(step) "Unit tests of the chat" $(MAKE) --no-print-directory chat
	@$(step) "Page of the chat" $(MAKE) --no-print-directory page
	@$(step) "Unit tests of the alerts" $(MAKE) --no-print-directory alert
	@for core in 2.19 2.21; do \
	  $(step) "Unit tests, ansible-core $$core" $(MAKE) --no-print-directory unit ANSIBLE=$$core || exit; \
	done
	@# The scenarios with a real model wait for a third of their time.
	@tests/beside.sh quick scenarios
	@$(step) summary

.PHONY: quick
quick:
	@for core in 2.19 2.21; do \
	  $(step) "ansible-test sanity, ansible-core $$core" $(MAKE) --no-print-directory sanity ANSIBLE=$$core || exit; \
	done
	@$(step) "Molecule gateway" $(MAKE) --no-print-directory molecule SCENARIO=gateway

.PHONY: scenarios
scenarios:
	@$(step) "Molecule resilience, ansible-core 2.19" $(MAKE) --no-print-directory molecule SCENARIO=resilience
	@$(step) "Molecule default, ansible-core 2.19" $(MAKE) --no-print-directory molecule SCENARIO=default
	@$(step) "Molecule production, ansible-core 2.21" $(MAKE) --no-print-directory molecule SCENARIO=production ANSIBLE=2.21

.PHONY: lint
lint: $(chat_python) $(alert_python) ## Check style, types and generated files
	ruff check
	ruff format --check
	tests/types.sh $(chat_python) $(alert_python)
	yamllint --strict .
	shellcheck $$(git ls-files '*.sh' .ci/run roles/alerting/files/llm-alert)
	ansible-lint --strict
	python docs/generate.py --check
	antsibull-changelog lint

# In the course of `make test` the machine is set up already.
.PHONY: core
core: $(if $(filter 0,$(MAKELEVEL)),setup)
	@tests/ansible_core.sh $(ANSIBLE)

.PHONY: unit
unit: core ## Run the unit tests of the collection
	# Most of their time is waiting.
	pytest --quiet --numprocesses 6 --dist worksteal tests/unit

.PHONY: chat
chat: $(chat_python) ## Run the unit tests of the chat app
	# Most of their time is waiting.
	$(chat_python) -m pytest --quiet --numprocesses 5 -o asyncio_mode=auto -o asyncio_default_fixture_loop_scope=function files/chat/tests

.PHONY: page
page: core $(chat_python) ## Test the chat's page in a browser, on a back end that plays along
	pytest --quiet tests/browser/test_looks.py tests/browser/test_accessibility.py

$(chat_python): files/chat/tests/requirements.lock
	uv venv --quiet --clear --python $$(command -v python) .cache/chat-venv
	uv pip sync --quiet --python $@ --require-hashes --build-constraints files/locks/build.txt $<
	touch $@

.PHONY: alert
alert: $(alert_python) ## Run the unit tests of the alerts
	$(alert_python) -m pytest --quiet files/alert/tests

$(alert_python): files/alert/tests/requirements.lock
	uv venv --quiet --clear --python $$(command -v python) .cache/alert-venv
	uv pip sync --quiet --python $@ --require-hashes --build-constraints files/locks/build.txt $<
	touch $@

.PHONY: sanity
sanity: core ## Run ansible-test sanity on the built and installed collection
	tests/sanity.sh

.PHONY: molecule
molecule: core ## Run one scenario: make molecule SCENARIO=default
	molecule test --scenario-name $(SCENARIO)

.PHONY: bench
# The chat is measured without any host.
bench: $(if $(filter chat,$(BENCH)),tools,setup stop) $(plot_python) ## Measure: make bench BENCH=recovery, or chat
	tests/bench/$(BENCH)/run.sh $(plot_python)

$(plot_python): tests/bench/requirements.lock
	uv venv --quiet --clear --python $$(command -v python) .cache/bench-venv
	uv pip sync --quiet --python $@ --require-hashes $<
	touch $@

.PHONY: locks
locks: setup ## Renew every lock of files/locks and of the tests
	files/locks/renew.sh

.PHONY: docs
docs: ## Write the generated documentation
	python docs/generate.py

.PHONY: clean
clean: ## Remove the test hosts, their images, every cache and the tools
	molecule/test_hosts/clean.sh
