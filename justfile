# Recipes only call scripts: everything works without just.

# What there is
default:
    @just --list

# Everything that CI checks
ci:
    .ci/run

# All tests: unit, rootless, integration
test:
    ./scripts/test

# Tests with real containers, as root; FILTER is part of a test's name
integration *FILTER:
    ./scripts/integration {{FILTER}}

# Tests with real containers in a VM: pure cgroup v2, AppArmor, SELinux; options: see scripts/vm
vm *FILTER:
    ./scripts/vm {{FILTER}}

# Mutated input for SECONDS from case SEED on: an hour by default
fuzz SECONDS="3600" SEED="1":
    CORTEN_FUZZ_SECONDS={{SECONDS}} CORTEN_FUZZ_SEED={{SEED}} cargo test --test fuzz -- --nocapture

# The validation suite of opencontainers/runtime-tools, as root; needs Go and the network
runtime-tools *ARGS:
    cargo build --release
    ./integration/peers/runtime-tools/run {{ARGS}}

# Run times beside runc and crun
bench:
    ./scripts/bench

# Formatting, import rules, clippy
lint:
    ./scripts/lint

# Format the code
fmt:
    cargo fmt

# The release binary
build:
    cargo build --release
