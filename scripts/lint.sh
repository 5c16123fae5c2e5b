#!/usr/bin/env bash
# Checks the format of every source file, and reads every one with clang-tidy; fails on the first kind of finding.
# usage: scripts/lint.sh            all of it: about half an hour of one core
#        scripts/lint.sh --format   the format alone: seconds
#        scripts/lint.sh FILE.cpp...
set -euo pipefail
cd "$(dirname "$0")/.."

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
cmake --preset cpu -B build/lint -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON >/dev/null
if (($# > 0)); then
  units=("$@")
else
  # Those of other backends are no part of this build.
  mapfile -t units < <(for source in "${sources[@]}"; do
    if grep --quiet --fixed-strings "\"file\": \"$PWD/$source\"" build/lint/compile_commands.json; then echo "$source"; fi
  done)
fi
printf '%s\0' "${units[@]}" |
  xargs --null --max-args=1 --max-procs="$(nproc)" \
    clang-tidy -p build/lint --quiet --extra-arg=-Wno-unknown-warning-option \
    --extra-arg=-Wno-unknown-pragmas --extra-arg=-Wno-shadow 2>&1 |
  sed '/ warnings\? generated\.$/d'
echo "lint: clang-tidy finds nothing in ${#units[@]} files"
