# Two targets do everything from nothing: `make demo` and `make test`.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
DEMO   := build-demo
FUZZ   := build-fuzz
FILES  ?= 2000

FOLDERS := runtime export calibration benchmarks
SOURCES := pyproject.toml $(shell find $(FOLDERS) -type f -not -name '*.pyc')

.PHONY: demo test test-slow fuzz lint install clean

demo: install
	mkdir -p $(DEMO)
	$(BIN)/glass-export examples/demo.safetensors --backbone timm/tf_efficientnet_lite0 \
	    --crops 4 --output $(DEMO)/demo.glass --force
	$(BIN)/glass-run examples/images --bundle $(DEMO)/demo.glass

test: $(VENV)/.test lint
	$(BIN)/pytest

test-slow: $(VENV)/.test
	$(BIN)/pytest -m slow

# FILES damaged images of each format, and FILES damaged bundles; what crashes, hangs or differs is
# kept in build-fuzz/. OpenVINO is known to crash (docs/trust.md): by hand, with --engine openvino.
fuzz: $(VENV)/.test demo
	cd tests && $(abspath $(BIN))/python -m fuzz images --files $(FILES) --keep $(abspath $(FUZZ))
	cd tests && $(abspath $(BIN))/python -m fuzz bundles $(abspath $(DEMO))/demo.glass \
	    --engine onnxruntime --files $(FILES) --keep $(abspath $(FUZZ))

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/.installed

# The environment, then the package: editing a source file repeats only the second step.
$(VENV)/.environment: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip 'setuptools>=77'
	$(PIP) install '.[export]'
	touch $@

$(VENV)/.installed: $(VENV)/.environment $(SOURCES)
	rm -rf build
	$(PIP) install --no-deps --no-build-isolation --force-reinstall .
	touch $@

$(VENV)/.test: $(VENV)/.installed
	$(PIP) install '.[test]'
	$(PIP) install --no-deps --target $(VENV)/stubs --upgrade 'tensorrt-stubs==10.13.0.35.1'
	sed -i -e 's/ in: / in_: /g' -e 's/channel_axis: int)/channel_axis: int = ...)/' \
	    $(VENV)/stubs/tensorrt_bindings/tensorrt.pyi  # some of their lines are no Python
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) $(FUZZ) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
