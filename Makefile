# Every target makes .venv itself when it is missing or out of date, so any of them may be the first command after a clone.

PYTHON :=# a Python 3.11 or 3.12 to build .venv with; empty: the first of python3, python3.12, python3.11 to run
SCALE := pocket
SEEDS := 0
READY := .venv/ready
RUN := .venv/bin/python# what bench-gpu runs; another interpreter must have all that pyproject.toml asks for
BENCH = $(RUN) -m outrageous.commands.bench
# Of which a speed is asked on a GPU, and dense models of equal work; all are set against the first.
SPEED_OF := lm/moe_1_wide,lm/moe_256,lm/moe_4096_h,lm/4xlstm_512,lm/moe_1_deep
# uv does not read pip's settings: local wheels are passed on.
INSTALL = $${PIP_FIND_LINKS:+env UV_FIND_LINKS="$$(printf '%s' "$$PIP_FIND_LINKS" | tr ' ' ',')"} \
	.venv/bin/python -m uv pip install --python .venv/bin/python --constraint constraints.txt

.PHONY: help setup reproduce-lm reproduce-mt data-lm1b data-wmt14 audit report bench bench-gpu bench-gpu-speed bench-gpu-fit test test-slow check format lint types imports clean

help: ## say what can be made (default)
	@echo 'make TARGET, where TARGET is'
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## make .venv with the package and its tools (every other target does this first)
	@echo "Set-up is complete: .venv with $$(.venv/bin/python --version)"

reproduce-lm: $(READY) ## train table 7's ladder, then print and draw it beside the paper (SCALE=pocket SEEDS=0, or SEEDS=0,1,2)
	.venv/bin/python -m outrageous.commands.reproduce table_7 --scale $(SCALE) --seeds $(SEEDS)

reproduce-mt: $(READY) ## the same for translation: tables 2 and 3, figure 4 (both directions)
	.venv/bin/python -m outrageous.commands.reproduce figure_4 --scale $(SCALE) --seeds $(SEEDS)

data-lm1b: $(READY) ## download and verify One Billion Word (6.1 GB of disk), going on where it was interrupted
	.venv/bin/python -m data_prep lm1b

data-wmt14: $(READY) ## the same for WMT'14 English-German and English-French (31 GB of disk)
	.venv/bin/python -m data_prep wmt14

audit: $(READY) ## count every model of tables 1 to 5, 7 and 8 and write the sizes beside the printed ones
	.venv/bin/python -m outrageous.commands.audit --save

report: $(READY) ## draw tables and figures again from the committed records
	.venv/bin/python -m outrageous.commands.report

bench: $(READY) ## measure one MoE layer beside other packages', and against the number of experts (some 25 minutes on an idle machine)
	$(INSTALL) --quiet --editable '.[dev,bench]'
	$(BENCH) layer --save
	$(BENCH) cost --save

bench-gpu: ## on a machine with a CUDA GPU: its tests, then, whatever fails, all that docs/one_gpu.md would have measured
	@$(MAKE) -j1 --no-print-directory --keep-going bench-gpu-speed bench-gpu-fit

# Without a GPU nothing is measured; with one, no measurement that fails ends those after it.
CHECK_GPU = @$(RUN) -c 'import sys; import outrageous.commands.bench, torch; torch.cuda.is_available() or sys.exit("there is no CUDA device here: nothing is measured")'
bench-gpu-speed bench-gpu-fit: export PYTHONPATH := src:.
MEASURE = @trap 'exit 130' INT; set -x; failed=0

bench-gpu-speed: $(if $(filter .venv/%,$(RUN)),$(READY)) ## the first half: CUDA tests, whole steps, experts' products
	$(CHECK_GPU)
	$(MEASURE); \
	$(RUN) -m pytest -m cuda || failed=1; \
	$(BENCH) step experiment=$(SPEED_OF) scale=paper data=synthetic trainer=gpu --rounds 2 --save || failed=1; \
	$(BENCH) products experts=64,256,1000 --save || failed=1; \
	exit $$failed

bench-gpu-fit: $(if $(filter .venv/%,$(RUN)),$(READY)) ## the other: memory of every model, optimizers of the tables, and whether GPU and CPU end alike
	$(CHECK_GPU)
	$(MEASURE); \
	$(BENCH) fit scale=paper --save || failed=1; \
	$(BENCH) vocabulary tokens=300000 --rounds 1 --save || failed=1; \
	$(BENCH) agreement --save || failed=1; \
	exit $$failed

test: $(READY) ## run the tests (all but the slow ones)
	.venv/bin/python -m pytest

test-slow: $(READY) ## run the slow tests
	.venv/bin/python -m pytest -m slow

check: lint types imports test ## formatting, lint, types, import contracts and tests

format: $(READY) ## rewrite the sources as ruff would have them
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

lint: $(READY) ## complain where the sources are not as ruff would have them
	.venv/bin/ruff format --check
	.venv/bin/ruff check

types: $(READY) ## check the type hints
	.venv/bin/mypy

imports: $(READY) ## check that imports run one way
	.venv/bin/lint-imports

clean: ## delete caches (never outputs/, results/ or .venv)
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache build
	find src data_prep tests -name __pycache__ -type d -prune -exec rm -rf {} +

# .venv-unfinished stands beside .venv while it is being made. Where it is found, an earlier set-up was interrupted:
# packages may be half there, so .venv is made afresh. A finished .venv is brought up to date with its own interpreter.
$(READY): pyproject.toml constraints.txt
	@set -e; \
	if [ -e .venv-unfinished ]; then echo 'An earlier set-up was interrupted: starting afresh.'; rm -rf .venv; fi; \
	tried=''; python=''; \
	for candidate in $(if $(PYTHON),'$(PYTHON)',$(wildcard .venv/bin/python) python3 python3.12 python3.11); do \
		if found=$$("$$candidate" -c 'import sys, ensurepip, venv; print("Python %d.%d.%d" % sys.version_info[:3]); \
			sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>&1); then python=$$candidate; break; fi; \
		tried="$$tried\n  $$candidate: $$(printf '%s' "$$found" | tail -n 1)"; \
	done; \
	if [ -z "$$python" ]; then \
		printf 'Python 3.11 or 3.12 with its venv module is needed; looked at:%b\n' "$$tried" >&2; \
		printf 'Install one (Debian, Ubuntu: python3-venv as well), or name it: make setup PYTHON=/path/to/python3.12\n' >&2; \
		exit 1; \
	fi; \
	touch .venv-unfinished; \
	echo "[1/3] .venv with $$python ($$found)"; \
	if [ "$$python" != .venv/bin/python ]; then "$$python" -m venv --clear .venv; fi; \
	echo '[2/3] uv, which installs faster than pip'; \
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv; \
	echo '[3/3] the package, its dependencies and its tools, in the versions of constraints.txt (PyTorch is large)'; \
	$(INSTALL) --editable '.[dev]'; \
	touch $(READY); rm .venv-unfinished
