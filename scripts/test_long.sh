#!/usr/bin/env bash
# The long series of tests, which do not run on every change: hours of two cores with the defaults.
# usage: scripts/test_long.sh [OPTIONS] [SERIES ...]        default: all of them, in this order
#   schedules    every CUDA kernel's tests on the CPU, under many random orders of threads and blocks
#   sanitizers   all tests under AddressSanitizer, the kernels' under ThreadSanitizer and MemorySanitizer
#   kills        training runs of 1, 2 and 4 ranks are killed at random moments, again and again; bytes of checkpoints
#                are flipped, disks fill up; they must end in the bits of one that was left alone
#   fuzz         damaged files and arguments: each must give one line and an exit code, under AddressSanitizer
#   budgets      registers and spills of every CUDA kernel, and a build of all programs for GPUs
#   lint         format, clang-tidy
#   --seed N     the series' first seed (default 1); a failure names the seed that repeats it
#   --seeds N    random orders for `schedules` (default 50)
#   --kills N    (default 100)
#   --cases N    of `fuzz` (default 3000)
#   --jobs N     default: one a core
#   --dry-run    prints what it would run
case ${1:-} in
  -h | --help) sed -n '2,/^[^#]/{s/^#\( \|$\)//p}' "$0"; exit ;;
esac
set -euo pipefail
cd "$(dirname "$0")/.."

known=(schedules sanitizers kills fuzz budgets lint)
chosen=() seed=1 seeds=50 kills=100 cases=3000 jobs=$(nproc) dry=0
number() {
  [[ $2 =~ ^[0-9]+$ ]] || { echo "test_long: $1 needs a number, not '$2'" >&2; exit 2; }
  printf -v "${1#--}" %s "$2"
}
while (($# > 0)); do
  case $1 in
    --seed | --seeds | --kills | --cases | --jobs)
      number "$1" "${2:-}"
      shift ;;
    --dry-run) dry=1 ;;
    *)
      if [[ " ${known[*]} " != *" $1 "* ]]; then
        echo "test_long: unknown argument '$1'; series are: ${known[*]}" >&2
        exit 2
      fi
      chosen+=("$1") ;;
  esac
  shift
done
((${#chosen[@]} > 0)) || chosen=("${known[@]}")

run() {
  echo "test_long: $*"
  ((dry)) || "$@"
}
build() {  # PRESET TARGET...
  run cmake --preset "$1"
  local targets=()
  if (($# > 1)); then targets=(--target "${@:2}"); fi
  run cmake --build --preset "$1" --parallel "$jobs" "${targets[@]}"
}

schedules() {
  build host-cuda kernels_tests
  # Ten seeds a call, so that a failure is seen before the end.
  local first
  for ((first = seed; first < seed + seeds; first += 10)); do
    local count=$((seed + seeds - first < 10 ? seed + seeds - first : 10))
    run env UNFURL_FIRST_SEED="$first" UNFURL_SEEDS="$count" ctest --preset host-cuda --parallel "$jobs" --tests-regex '^kernels/'
  done
}
sanitizers() {
  local preset
  build host-cuda-asan
  run env UNFURL_FIRST_SEED="$seed" ctest --preset host-cuda-asan --parallel "$jobs"
  for preset in host-cuda-tsan host-cuda-msan; do  # these build the kernels and the engine alone
    build "$preset"
    run env UNFURL_FIRST_SEED="$seed" ctest --preset "$preset" --parallel "$jobs" --tests-regex '^kernels/'
  done
}
kills() {
  build host-cuda unfurl
  local ranks
  for ranks in 1 2 4; do run tests/scripts/kills.sh build/host-cuda/unfurl "$kills" "$seed" "$ranks"; done
}
fuzz() {
  build host-cuda-asan unfurl
  run tests/scripts/fuzz.py build/host-cuda-asan/unfurl --cases "$cases" --seed "$seed" --jobs "$jobs"
}
budgets() {
  CUDACXX=$(scripts/nvcc.sh)
  export CUDACXX
  run scripts/ptxas_report.py
  build cuda
}
lint() { run scripts/lint.sh; }

failed=()
for series in "${chosen[@]}"; do
  started=$SECONDS
  echo "test_long: == $series =="
  # In a process of its own, which ends at the first failure; as part of an `if` it would not.
  set +e
  (set -e && "$series")
  status=$?
  set -e
  ((status == 0)) || failed+=("$series")
  echo "test_long: == $series: $((SECONDS - started)) s =="
done
if ((${#failed[@]} > 0)); then
  echo "test_long: FAILED: ${failed[*]}"
  exit 1
fi
echo "test_long: all is well"
