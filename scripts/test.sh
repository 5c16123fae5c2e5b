#!/usr/bin/env bash
# Sets the machine up, builds and runs every test.
# usage: scripts/test.sh [options of ctest]        e.g. scripts/test.sh -R rms_norm
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
cmake --preset cpu
cmake --build --preset cpu
ctest --preset cpu --parallel "$(nproc)" "$@"
