#!/usr/bin/env bash
# The whole method in small: sets the machine up, builds the program, synthesises a corpus, trains three models on it and
# shows their expansions. A few minutes on two cores.
# usage: scripts/quickstart.sh [options of unfurl run]
case ${1:-} in
  -h | --help) sed -n '2,/^[^#]/{s/^#\( \|$\)//p}' "$0"; exit ;;
esac
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
cmake --preset cpu
cmake --build --preset cpu --target unfurl  # the tests and the benchmarks can wait
exec build/cpu/unfurl run recipes/quickstart.yaml "$@"
