x:
	rm -rf build && .venv/bin/pip install -q --no-deps --no-build-isolation .
