#!/usr/bin/env bash
# benchmarks/peers/torch_gpu.py on the CPU: its losses against those of our CUDA kernels, executed on the CPU in bf16, from
# the same weights and tokens; then its single operations and its decoding, once and in small.
# usage: tests/scripts/torch_gpu_test.sh TRAIN_GPU_BENCHMARK        a build that can --simulate
#   UNFURL_PYTHON=PROGRAM   a Python that has PyTorch 2.5 or newer; without one the test is skipped (exit code 77)
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${UNFURL_PYTHON:-python3}
if ! "$python" -c 'import sys, torch; sys.exit(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 5))' 2>/dev/null; then
  echo "torch_gpu_test: $python has no PyTorch 2.5 or newer"
  exit 77
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$1" --simulate export "$folder" palm-tiny
"$1" --simulate losses 20 palm-tiny >"$folder/losses"
"$python" benchmarks/peers/torch_gpu.py train "$folder" eager+flash --cpu
"$python" benchmarks/peers/torch_gpu.py kernels palm-tiny --cpu
"$python" benchmarks/peers/torch_gpu.py decode palm-tiny --cpu
# Losses that are not ours are told.
sed -i '10s/.*/1.5/' "$folder/losses"
if "$python" benchmarks/peers/torch_gpu.py train "$folder" eager+flash --cpu; then
  echo "torch_gpu_test: other losses pass" >&2
  exit 1
fi
echo "torch_gpu_test: all is well"
