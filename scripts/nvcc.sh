#!/usr/bin/env bash
# Prints where nvcc is: what $CUDACXX names, what this machine has, or else NVIDIA's compiler as Python packages (some 900
# MB), which it installs without root into build/nvcc. No GPU is needed to compile for one.
# usage: export CUDACXX=$(scripts/nvcc.sh)      then scripts/ptxas_report.py, scripts/check_cuda.py, cmake --preset cuda
case ${1:-} in
  -h | --help) sed -n '2,/^[^#]/{s/^#\( \|$\)//p}' "$0"; exit ;;
  ?*)
    echo "nvcc: unknown argument '$1'; see scripts/nvcc.sh --help" >&2
    exit 2 ;;
esac
set -euo pipefail
cd "$(dirname "$0")/.."

version=13.0  # with which the budgets of scripts/ptxas_budget were made
packages=("nvidia-cuda-nvcc==$version.*" "nvidia-cuda-crt==$version.*" "nvidia-nvvm==$version.*" "nvidia-cuda-cccl==$version.*"
  "nvidia-cuda-runtime==$version.*" "nvidia-cublas==$version.*")

found=$(python3 -c 'import sys; sys.path.insert(0, "scripts"); import ptxas_report; print(ptxas_report.find_nvcc() or "")')
if [[ -n $found ]]; then
  echo "$found"
  exit 0
fi
if ! python3 -m venv build/nvcc >&2; then
  echo "nvcc: python3 cannot make a virtual environment; install python3-venv, or CUDA $version" >&2
  exit 1
fi
if ! build/nvcc/bin/pip install --quiet --disable-pip-version-check "${packages[@]}" >&2; then
  echo "nvcc: pip could not install ${packages[*]}; its messages are above" >&2
  exit 1
fi
compgen -G "$PWD/build/nvcc/lib/python3*/site-packages/nvidia/cu13/bin/nvcc"
