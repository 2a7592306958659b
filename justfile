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
