# The book's commands; `make help` lists them. GNU make 3.81 or newer.
# What is stale is decided by Make's own rules: a notebook re-runs when it, the gaplib files it stands on (_build/deps.mk),
# the lock file or the parameters change.

PROFILE ?= quick
SEEDS ?= $(if $(filter confirm,$(PROFILE)),10,3)
DEVICE ?= $(if $(filter full,$(PROFILE)),cuda,cpu)
BUILD ?= _build
VENV ?= .venv
PORT ?= 8000
# One thread a process, two processes: two processes of two threads each were measured 14 times slower. A -j given wins.
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
JOBS ?= $(if $(filter 1,$(CORES)),1,2)
ifeq (0,$(MAKELEVEL))
MAKEFLAGS += -j$(JOBS)
endif
# What the reader's shell says to Python is for other work: PYTHONPATH may hold another gaplib, PYTHONWARNINGS=error and
# PYTHONSAFEPATH stop the tools. Which Python makes the environment (PYTHON) is ours. tools/kernel.py has the same rule.
unexport $(filter-out PYTHON PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX,$(filter PYTHON%,$(.VARIABLES)))
export PYTHONNOUSERSITE := 1
export OMP_NUM_THREADS := 1
export JUPYTER_PREFER_ENV_PATH := 1
export GAPLIB_CACHE ?= $(CURDIR)/_build/cache

PY := $(VENV)/bin/python
NOTEBOOKS := $(sort $(wildcard notebooks/[0-9][0-9]_*.ipynb))
GAPLIB := $(shell find gaplib -name '*.py')
PAGES := _config.yml _toc.yml $(shell find book -type f -not -path '*/__pycache__/*' -not -name '.*')
CLAIMS := $(BUILD)/results/claims.json
BUILDING := $(filter book html notebook executed serve,$(MAKECMDGOALS))

.PHONY: FORCE help book html executed notebook test lint bench gpu-check runs confirm serve lock clean
.DELETE_ON_ERROR:
.SECONDARY:

help:
	@echo "make book              run the notebooks that changed, judge them, render the site in $(BUILD)/html, open it in Chromium"
	@echo "make test              lint and tests"
	@echo "make notebook N=01     run and judge one chapter"
	@echo "make serve             build the site and serve it on http://localhost:$(PORT)"
	@echo "make runs              the training runs in the cache and what they cost"
	@echo "make confirm           the confirming run (more seeds; resumable), then results/confirm"
	@echo "make bench             measure speed and memory (about ten minutes of a quiet machine), into $(BUILD)/bench"
	@echo "make gpu-check         methods, metrics, training, fusion on this machine's cuda or mps against the CPU, with times"
	@echo "make lint              only the lints: code, types, spelling, layers of imports, numbers typed into prose"
	@echo "make lock              resolve requirements.txt anew from pyproject.toml"
	@echo "make clean             remove $(BUILD), the cache of training runs included"
	@echo "Settings: PROFILE=quick|confirm|full SEEDS=3 DEVICE=cpu|cuda JOBS=2 GAPLIB_DATA=folder-of-published-embeddings GAPLIB_REQUIRE=published"

# --- the environment ---------------------------------------------------------------------------------------------------

# The check: one that was moved with its project, or that lost its kernel, is not up to date whatever the dates say.
$(VENV)/.stamp: requirements.txt tools/make_venv.sh $(if $(shell tools/make_venv.sh $(VENV) --check),FORCE)
	@tools/make_venv.sh $(VENV)

lock: $(VENV)/.stamp
	$(VENV)/bin/uv pip compile pyproject.toml --all-extras --group dev --universal --generate-hashes --python-version 3.11 \
	    --no-emit-index-url --no-header -q -o requirements.txt

# --- notebooks ---------------------------------------------------------------------------------------------------------

ifneq (,$(BUILDING))
# A value that the notebooks would refuse stops here, in one line: parameters that change make every notebook stale.
one = $(and $(filter 1,$(words $(2))),$(filter $(1),$(2)))
without_digits = $(subst 0,,$(subst 1,,$(subst 2,,$(subst 3,,$(subst 4,,$(call without_5_to_9,$(1)))))))
without_5_to_9 = $(subst 5,,$(subst 6,,$(subst 7,,$(subst 8,,$(subst 9,,$(1))))))
whole_number = $(and $(filter 1,$(words $(1))),$(if $(call without_digits,$(1)),,$(1)))
ifeq (,$(call one,quick confirm full,$(PROFILE)))
$(error PROFILE: expected quick, confirm or full, got '$(PROFILE)')
endif
ifeq (,$(filter-out 0%,$(call whole_number,$(SEEDS))))
$(error SEEDS: expected a whole number from 1 on, got '$(SEEDS)')
endif
ifeq (,$(call one,cpu cuda mps $(addprefix cuda:,$(call whole_number,$(patsubst cuda:%,%,$(DEVICE)))),$(DEVICE)))
$(error DEVICE: expected cpu, cuda, cuda:N or mps, got '$(DEVICE)')
endif
ifneq (,$(filter notebook,$(MAKECMDGOALS)))
ifeq (,$(if $(N),$(filter notebooks/$(N)_%,$(NOTEBOOKS))))
$(error make notebook N=01: name a chapter; there are: $(NOTEBOOKS))
endif
endif

# Rewritten only when a parameter changes; every notebook depends on it. With GAPLIB_REQUIRE=published no notebook that
# ran with stand-ins for the published embeddings is good enough.
PARAMETERS := PROFILE=$(PROFILE) SEEDS=$(SEEDS) DEVICE=$(DEVICE)$(if $(GAPLIB_REQUIRE), GAPLIB_REQUIRE=$(GAPLIB_REQUIRE))
IGNORED := $(shell mkdir -p $(BUILD); echo '$(PARAMETERS)' | cmp -s - $(BUILD)/params.txt || echo '$(PARAMETERS)' > $(BUILD)/params.txt)

# Folders too: a file that goes away changes them.
$(BUILD)/deps.mk: $(NOTEBOOKS) $(GAPLIB) $(sort $(dir $(GAPLIB))) tools/deps.py
	@python=$(PY); [ -x $$python ] || python=$(or $(PYTHON),python3); $$python tools/deps.py $(BUILD) $(NOTEBOOKS)
-include $(BUILD)/deps.mk
endif

# Make starts jobs in this order.
ORDERED := $(filter $(NOTEBOOKS),$(LONGEST_FIRST)) $(filter-out $(LONGEST_FIRST),$(NOTEBOOKS))
EXECUTED := $(patsubst notebooks/%,$(BUILD)/executed/%,$(ORDERED))

$(BUILD)/executed/%.ipynb: notebooks/%.ipynb requirements.txt $(BUILD)/params.txt | $(VENV)/.stamp
	@$(PY) -m tools.execute $< --build $(BUILD) -p PROFILE $(PROFILE) -p SEEDS $(SEEDS) -p DEVICE $(DEVICE)

# Chapter 11 decides by committed results.
$(BUILD)/executed/11_your_model.ipynb: $(wildcard results/leaderboard.* results/confirm/09.json)

executed: $(EXECUTED)

notebook: $(filter $(BUILD)/executed/$(N)_%,$(EXECUTED))
	@echo "Up to date: $(filter $(BUILD)/executed/$(N)_%,$(EXECUTED))"

# --- the site ----------------------------------------------------------------------------------------------------------

DECIDING := $(wildcard results/confirm/*.json gaplib/claims/*.py tools/claims_*.py) gaplib/book/results.py gaplib/stats.py tools/confirm.py

$(CLAIMS): $(EXECUTED) $(DECIDING) tools/build_claims.py | $(VENV)/.stamp
	@echo "Deciding the claims"
	@$(PY) -m tools.build_claims --build $(BUILD)

$(BUILD)/site.stamp: $(EXECUTED) $(CLAIMS) $(PAGES) $(wildcard results/zoo.csv) tools/stage.py tools/gate.py tools/build_site.py requirements.txt | $(VENV)/.stamp
	@echo "Rendering the site"
	@$(PY) -m tools.stage --build $(BUILD) $(EXECUTED)
	@$(PY) -m tools.build_site --build $(BUILD)
	@touch $@

html: $(BUILD)/site.stamp

$(BUILD)/site-tests.stamp: $(BUILD)/site.stamp $(wildcard tests/site/test_site*.py)
	@tools/site_tests.sh $(PY) $(JOBS)
	@touch $@

book: $(BUILD)/site-tests.stamp
	@echo "The book is up to date: $(BUILD)/html/index.html (make serve shows it)"

serve: html
	@echo "http://localhost:$(PORT) (stop with Ctrl-C)"
	@$(PY) -m http.server --bind 127.0.0.1 --directory $(BUILD)/html $(PORT)

# --- checks ------------------------------------------------------------------------------------------------------------

lint: $(VENV)/.stamp
	@echo "Lint: code, types, spelling, layers of imports, numbers typed into prose"
	@$(VENV)/bin/ruff check -q .
	@$(VENV)/bin/ruff format -q --check .
	@$(VENV)/bin/mypy --no-error-summary
	@$(VENV)/bin/codespell
	@said=$$($(VENV)/bin/lint-imports --no-cache) || { echo "$$said"; exit 1; }
	@$(PY) -m tools.lint_numbers

test: lint
	@echo "Tests"
	@$(PY) -m pytest -n $(JOBS) -m "not site" --cov --cov-report=term

bench: $(VENV)/.stamp
	@$(PY) -m bench --out $(BUILD)/bench $(if $(PARTS),--parts $(PARTS))

# DEVICE of the command line alone: what the notebooks use by themselves is the CPU.
gpu-check: $(VENV)/.stamp
	@$(PY) -m tools.gpu_check $(if $(filter command,$(firstword $(origin DEVICE))),--device $(DEVICE))

runs: $(VENV)/.stamp
	@$(PY) -m gaplib runs

# Folders of its own, so that the quick build stays as it is; the cache of training runs is shared.
confirm: $(VENV)/.stamp
	@$(MAKE) --no-print-directory executed BUILD=_build/confirm PROFILE=confirm SEEDS=$(if $(filter command,$(firstword $(origin SEEDS))),$(SEEDS),10)
	@$(PY) -m tools.confirm --run _build/confirm

clean:
	rm -rf $(BUILD)
