# make demo: pretrain a small BERT on the built-in corpus, and fine-tune it.   make test: all the tests.   make faults: every fault a run is to survive.   make ui: look at the runs.
PYTHON ?= python3
BIN := .venv/bin
PIP_OPTIONS := --quiet --disable-pip-version-check --no-compile
# What pip would do on one core, and for much that nobody imports; some files are in the syntax of another Python.
COMPILE := $(BIN)/python -m compileall -qq -j 0 -x '/tests?/|/transformers/models/' .venv/lib || true

.PHONY: demo test faults ui clean

demo: .venv/run-ready
	$(BIN)/python run.py
	$(BIN)/python run_finetune.py

test: .venv/test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

faults: .venv/test-ready
	$(BIN)/python -m tests.faults.battery

ui: .venv/run-ready
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false \
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port 5000

.venv/run-ready: requirements.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; name one with make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(PIP_OPTIONS) -r requirements.txt
	@$(COMPILE)
	@touch $@

.venv/test-ready: .venv/run-ready requirements-dev.txt
	$(BIN)/python -m pip install $(PIP_OPTIONS) -r requirements-dev.txt
	@$(COMPILE)
	@touch $@

clean:  # what can be made again; runs and what MLflow holds of them stay
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
