#!/usr/bin/env bash
# The tests that take too long for every change, on CUDA executed on the CPU and, where there is one, on the GPU.
# usage: scripts/test_long.sh [preset]        host-cuda by default
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:-host-cuda}
cmake --preset "$preset"
cmake --build --preset "$preset"
UNFURL_LONG_TESTS=1 "build/$preset/train_tests" --gtest_filter='DeviceTest.FiftyStepsOfPalmTinyFollowTheCpu'
