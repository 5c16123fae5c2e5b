#!/usr/bin/env python3
"""Reads, with the host compiler, the C++ that only a build for GPUs contains: what UNFURL_CUDA turns on.

usage: scripts/check_cuda.py

That is CUDA's queue and products, every source of core and train that works on a device's queue, the benchmarks of a GPU
and the tests that name CUDA. They are read, not compiled, against the headers of the CUDA toolkit: half a minute of two
cores, where `cmake --build --preset cuda` takes many. scripts/ptxas_report.py compiles the kernels. Without a toolkit it
says so and succeeds; scripts/nvcc.sh installs one.
"""
import concurrent.futures
import os
import re
import subprocess
import sys

from ptxas_report import ROOT, find_nvcc

# A source that includes one of these works on a queue.
HEADERS = ("core/device.h", "core/dispatch.h", "core/product.h", "core/optim/optimizer.h", "kernels/matmul_choices.h",
           "kernels/device/runtime.h", "benchmarks/gpu.h")
# One of the many tests that run the same cases on every backend.
EXAMPLE = "tests/kernels/norm_test.cpp"
FLAGS = ["-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Wshadow", "-Wnon-virtual-dtor", "-Werror", "-DUNFURL_CUDA"]


def is_concerned(path, text):
    if os.path.basename(path).startswith("host_cuda_"):
        return False
    if path.startswith("tests/"):
        return path == EXAMPLE or re.search(r"Device::cuda\b|\bUNFURL_CUDA\b", text)
    return any(f'#include "{header}"' in text for header in HEADERS) or re.search(r"#include <(cuda|cublas|cudnn)", text)


def find_sources():
    out = []
    for layer in ("kernels", "core", "train", "benchmarks", "tests"):
        for folder, _, names in os.walk(os.path.join(ROOT, layer)):
            for name in sorted(names):
                path = os.path.relpath(os.path.join(folder, name), ROOT)
                if name.endswith(".cpp") and is_concerned(path, open(os.path.join(ROOT, path)).read()):
                    out.append(path)
    return out


def main():
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    if len(sys.argv) > 1:
        print(f"check_cuda: unknown argument '{sys.argv[1]}'; see scripts/check_cuda.py --help", file=sys.stderr)
        return 2
    nvcc = find_nvcc()
    headers = os.path.join(os.path.dirname(os.path.dirname(nvcc)), "include") if nvcc else ""
    missing = [name for name in ("cuda_runtime_api.h", "cublasLt.h") if not os.path.exists(os.path.join(headers, name))]
    if missing:
        print(f"check_cuda: skipped: no CUDA toolkit with {' and '.join(missing)} on this machine")
        return 0
    compiler = os.environ.get("CXX", "c++")
    sources = find_sources()

    def read(source):
        command = [compiler, *FLAGS, "-I" + ROOT, "-isystem", headers, source]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(read, sources))
    failed = [source for source, result in zip(sources, results) if result.returncode != 0]
    for result in results:
        sys.stderr.write(result.stderr)
    if failed:
        print(f"check_cuda: these do not compile for a GPU: {' '.join(failed)}", file=sys.stderr)
        return 1
    print(f"check_cuda: {len(sources)} sources of the build for GPUs are right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
