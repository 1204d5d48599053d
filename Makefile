# Two targets do everything from nothing: `make demo` and `make test`.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
DEMO   := build-demo
FUZZ   := build-fuzz
ARM    := build-aarch64
FILES  ?= 2000
WORKERS ?= 2

# Where no bytecode is to be written, each program that tests start would compile our modules anew.
export PYTHONDONTWRITEBYTECODE :=

comma := ,
FOLDERS := glass_edge runtime export calibration benchmarks

.PHONY: demo test test-slow test-registry test-floors fuzz aarch64 resolve lint style types types-windows docs install clean

demo: install
	mkdir -p $(DEMO)
	$(BIN)/glass-export examples/demo.safetensors --backbone timm/tf_efficientnet_lite0 \
	    --crops 4 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 \
	    --output $(DEMO)/demo.glass --force
	$(BIN)/glass-run examples/images --bundle $(DEMO)/demo.glass \
	    --report $(DEMO)/report.html --force

# Each worker has a CPU and engines of its own, and gets whole modules (tests/conftest.py).
test: $(VENV)/.test $(VENV)/.browser
	$(MAKE) --jobs $(WORKERS) --output-sync lint
	$(BIN)/pytest -n $(WORKERS)

test-slow: $(VENV)/.test $(VENV)/.browser
	$(BIN)/pytest -m 'slow and not registry'

# The tests that need a network: an install without torch, and one of the oldest libraries.
test-registry: $(VENV)/.test
	$(BIN)/pytest -m 'registry and not slow'

# An export with the oldest PyTorch that is allowed, which is gigabytes. Needs a network.
test-floors: $(VENV)/.test
	$(BIN)/pytest -m 'registry and slow'

# FILES damaged images of each format, and FILES damaged bundles; what crashes, hangs or differs is
# kept in build-fuzz/. OpenVINO is known to crash (docs/trust.md): by hand, with --engine openvino.
fuzz: $(VENV)/.test demo
	cd tests && $(abspath $(BIN))/python -m fuzz images --files $(FILES) --keep $(abspath $(FUZZ))
	cd tests && $(abspath $(BIN))/python -m fuzz bundles $(abspath $(DEMO))/demo.glass \
	    --engine onnxruntime --files $(FILES) --keep $(abspath $(FUZZ))

# As root: the example photographs judged in an emulated Debian, and compared with this machine's
# records. Needs a network; minutes, the first time many (docs/platforms.md).
aarch64: demo
	tools/aarch64.sh $(BIN) $(DEMO)/demo.glass $(ARM)

# Can every extra be installed for the oldest Python, on x86-64 and aarch64? Needs a network.
resolve: $(VENV)/.uv
	$(BIN)/python tools/resolve.py -o docs/reports/resolve.md

lint: style types types-windows

style: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy
	$(BIN)/mypy $(wildcard tools/*.py tools/docs/*.py)

types-windows: $(VENV)/.test
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32 -p glass_edge.runtime

# Figures and tables of README.md and docs/, from docs/reports and the code.
docs: $(VENV)/.test
	$(BIN)/python tools/docs

install: $(VENV)/.installed

# Some extras. Editable: an edit needs no reinstall. mypy reads no editable installs, so links stand
# in for one.
define install
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip 'setuptools>=77'
	$(PIP) install -e '.[$(1)]'
	mkdir -p $(VENV)/tree/glass_edge
	ln -sfn $(foreach name,__init__.py py.typed,$(CURDIR)/glass_edge/$(name)) $(VENV)/tree/glass_edge/
	ln -sfn $(foreach folder,$(filter-out glass_edge,$(FOLDERS)),$(CURDIR)/$(folder)) $(VENV)/tree/glass_edge/
	touch $(VENV)/.installed
endef

$(VENV)/.installed: pyproject.toml setup.py
	$(call install,export$(comma)report)

$(VENV)/.test: pyproject.toml setup.py
	$(call install,test)
	$(PIP) install --no-deps --target $(VENV)/stubs --upgrade 'tensorrt-stubs==10.13.0.35.1'
	sed -i -e 's/ in: / in_: /g' -e 's/channel_axis: int)/channel_axis: int = ...)/' \
	    $(VENV)/stubs/tensorrt_bindings/tensorrt.pyi  # some of their lines are no Python
	touch $@

# The tests of reports look at them in a real browser.
$(VENV)/.browser:
	command -v chromium chromium-browser google-chrome google-chrome-stable | grep -q . \
	    || { apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium >/dev/null; } \
	    || { echo 'make test needs a browser: install Chromium or Chrome'; exit 1; }
	touch $@

$(VENV)/.uv:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install 'uv>=0.9' packaging "tomli; python_version < '3.11'"
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) $(FUZZ) $(ARM) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
