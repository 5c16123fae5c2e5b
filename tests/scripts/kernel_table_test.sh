#!/usr/bin/env bash
# The table of kernels_gpu_benchmark, simulated: every kernel that a .cu instantiates for a device has a line, and so has
# matmul, which is a library's.
# usage: tests/scripts/kernel_table_test.sh KERNELS_GPU_BENCHMARK        a build that can --simulate
set -euo pipefail
cd "$(dirname "$0")/../.."
table=$("$1" --simulate palm-tiny)
printf '%s\n' "$table"
mapfile -t contracts < <(grep --only-matching --no-filename --extended-regexp 'template [a-z]+ [a-z_0-9]+\(const DeviceQueue&' kernels/*.cu |
  sed 's/template [a-z]* //; s/(.*//' | sort --unique)
missing=()
for contract in matmul "${contracts[@]}"; do
  grep --quiet --extended-regexp "^$contract[, ].*simulated" <<<"$table" || missing+=("$contract")
done
if ((${#contracts[@]} < 40)); then
  echo "kernel_table_test: only ${#contracts[@]} kernels were found in kernels/*.cu: an error of this test" >&2
  exit 1
fi
if ((${#missing[@]} > 0)); then
  echo "kernel_table_test: an error: no line for ${missing[*]}" >&2
  exit 1
fi
echo "kernel_table_test: each of ${#contracts[@]} kernels has its line"
