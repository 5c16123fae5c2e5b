#!/usr/bin/env bash
# Sets the machine up, builds and runs every test.
# usage: scripts/test.sh [options of ctest]        e.g. scripts/test.sh -R rms_norm
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
launcher=()
if command -v ccache >/dev/null; then launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
cmake --preset cpu "${launcher[@]}"
cmake --build --preset cpu
ctest --preset cpu --parallel "$(nproc)" "$@"
