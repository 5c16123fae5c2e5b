#!/usr/bin/env bash
# Sets the machine up, builds and runs every test; the CUDA kernels are executed on the CPU.
# usage: scripts/test.sh [options of ctest]        e.g. scripts/test.sh -R rms_norm
case ${1:-} in
  -h | --help) sed -n '2,/^[^#]/{s/^#\( \|$\)//p}' "$0"; exit ;;
esac
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
cmake --preset host-cuda
cmake --build --preset host-cuda
ctest --preset host-cuda --parallel "$(nproc)" "$@"
