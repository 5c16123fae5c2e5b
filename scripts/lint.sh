#!/usr/bin/env bash
# Checks the format of every source file, and reads every one with clang-tidy, CUDA kernels in the form in which the CPU
# executes them; fails on the first kind of finding.
# usage: scripts/lint.sh            all of it: about forty minutes of one core
#        scripts/lint.sh --format   the format alone: seconds
#        scripts/lint.sh FILE.cpp|FILE.cu...
case ${1:-} in
  -h | --help) sed -n '2,/^[^#]/{s/^#\( \|$\)//p}' "$0"; exit ;;
  --format)
    if (($# > 1)); then
      echo "lint: --format looks at all files; see scripts/lint.sh --help" >&2
      exit 2
    fi ;;
  -*)
    echo "lint: unknown option '$1'; see scripts/lint.sh --help" >&2
    exit 2 ;;
esac
set -euo pipefail
cd "$(dirname "$0")/.."
for source in "$@"; do
  if [[ $source != --format && ! -f $source ]]; then
    echo "lint: there is no file $source" >&2
    exit 2
  fi
done

mapfile -t sources < <(find benchmarks core kernels tests train -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' | sort)
if [[ ${1:-} == --format ]]; then
  scripts/setup.sh clang-format
else
  scripts/setup.sh clang-format clang-tidy
fi
misshapen=()
for source in "${sources[@]}"; do
  # Not --dry-run: that finds fault with the ends of inline namespaces, which it then leaves as they are.
  clang-format "$source" | cmp --silent - "$source" || misshapen+=("$source")
done
if ((${#misshapen[@]} > 0)); then
  echo "lint: not formatted; run: clang-format -i ${misshapen[*]}" >&2
  exit 1
fi
echo "lint: the format of ${#sources[@]} files is right"
if [[ ${1:-} == --format ]]; then exit 0; fi

# clang cannot read GCC's precompiled headers, knows not all of its warnings and pragmas, and calls more things shadows.
cmake --preset host-cuda -B build/lint -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON >/dev/null
chosen=("$@")
if (($# == 0)); then chosen=("${sources[@]}"); fi
units=()
for source in "${chosen[@]}"; do
  unit=$source
  if [[ $source == *.cu ]]; then unit=build/lint/host_cuda/$source.cpp; fi  # one line, which includes it
  if grep --quiet --fixed-strings "\"file\": \"$PWD/$unit\"" build/lint/compile_commands.json; then
    units+=("$unit")
  elif (($# > 0)); then
    echo "lint: $source is compiled by no build for the CPU" >&2
    exit 2
  fi  # headers are read with what includes them; what only a build for GPUs contains is not read
done
printf '%s\0' "${units[@]}" |
  xargs --null --max-args=1 --max-procs="$(nproc)" \
    clang-tidy -p build/lint --quiet --extra-arg=-Wno-unknown-warning-option \
    --extra-arg=-Wno-unknown-pragmas --extra-arg=-Wno-shadow 2>&1 |
  sed '/ warnings\? generated\.$/d'
echo "lint: clang-tidy finds nothing in ${#units[@]} files"
