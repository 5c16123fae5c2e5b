#!/usr/bin/env python3
"""Registers, stack, spills and shared memory of every CUDA kernel, for sm_80 and sm_90a, without a GPU.

usage: scripts/ptxas_report.py [--update] [FILE.cu ...]     (all of kernels/*.cu and the wrappers' test by default)

Fails where a kernel spills, has a stack frame, uses more registers or static shared memory than its budget in
scripts/ptxas_budget/NAME.json, or has none. --update writes what was found as the new budget of the files named. Without
nvcc it says so and succeeds.
"""
import argparse
import concurrent.futures
import glob
import json
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUDGETS = os.path.join(ROOT, "scripts", "ptxas_budget")
ARCHITECTURES = ("sm_80", "sm_90a")


def find_nvcc():
    candidates = [os.environ.get("CUDACXX"), shutil.which("nvcc")]
    for folder in ("/usr/local/cuda", "/usr/local/cuda-*", "/opt/cuda", "/opt/cuda-*", "/opt/nvidia/cuda*"):
        candidates += sorted(glob.glob(folder + "/bin/nvcc"), reverse=True)
    for folder in sys.path:
        candidates.append(os.path.join(folder, "nvidia", "cu13", "bin", "nvcc"))
    return next((c for c in candidates if c and os.access(c, os.X_OK)), None)


def compile_one(nvcc, source, architecture):
    """The kernels of a source for an architecture: {mangled name: figures}, and nvcc's messages if it failed."""
    command = [nvcc, "-std=c++20", "-O3", "-cubin", "-arch=" + architecture, "--expt-relaxed-constexpr",
               "-diag-suppress=554", "--Werror=all-warnings", "-Xptxas=-v", "-DUNFURL_CUDA", "-I" + ROOT,
               "-o", os.devnull, source]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        return {}, run.stdout + run.stderr
    # ptxas ignores setmaxnreg, or puts wgmma one after the other, with no more than a remark.
    remarks = [line for line in run.stderr.splitlines() if re.search(r"C75\d\d|setmaxnreg|serializ", line)]
    kernels, name = {}, None
    for line in run.stderr.splitlines():
        if match := re.search(r"Compiling entry function '(\S+)'", line):
            name = match[1]
            kernels[name] = {}
        elif name is None:
            continue
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            kernels[name] |= {"stack": int(match[1]), "spills": int(match[2]) + int(match[3])}
        elif match := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+) bytes smem", line)
            kernels[name] |= {"registers": int(match[1]), "shared": int(shared[1]) if shared else 0}
    return kernels, "\n".join(remarks)


def readable(mangled):
    """norm_forward_kernel<unfurl::bf16, false, 1, 4>: without namespaces and parameters."""
    names = subprocess.run(["c++filt"], input="\n".join(mangled), capture_output=True, text=True).stdout.splitlines()
    short = []
    for name in names:
        name = re.sub(r"^void ", "", name).replace("(anonymous namespace)::", "").replace("unfurl::kernels::", "")
        depth, end = 0, len(name)
        for i, character in enumerate(name):  # the parameter list starts at the first bracket outside of <>
            depth += {"<": 1, ">": -1}.get(character, 0)
            if character == "(" and depth == 0:
                end = i
                break
        short.append(name[:end].replace("(bool)1", "true").replace("(bool)0", "false"))
    return dict(zip(mangled, short))


class Parser(argparse.ArgumentParser):
    """A mistake is one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}; see --help\n")


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write what was found as the new budget")
    parser.add_argument("files", nargs="*")
    arguments = parser.parse_args()
    for source in arguments.files:
        if not os.path.isfile(source):
            parser.error(f"there is no file {source}")
    nvcc = find_nvcc()
    if nvcc is None:
        print("ptxas_report: skipped: there is no nvcc on this machine (CUDACXX, PATH, /usr/local/cuda*, /opt/cuda*)")
        return 0
    sources = arguments.files or [
        *sorted(glob.glob(os.path.join(ROOT, "kernels", "*.cu"))),
        # The wrappers of Hopper's instructions, which no kernel uses yet.
        os.path.join(ROOT, "tests", "kernels", "ptx_conformance.cu")]
    jobs = [(source, architecture) for source in sources for architecture in ARCHITECTURES]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda job: compile_one(nvcc, *job), jobs))

    problems, count = [], 0
    found = {source: {} for source in sources}
    for (source, architecture), (kernels, messages) in zip(jobs, results):
        if messages:
            problems.append(f"{os.path.basename(source)} for {architecture}:\n{messages}")
        names = readable(list(kernels))
        for mangled, figures in kernels.items():
            found[source].setdefault(names[mangled], {})[architecture] = figures
    for source, kernels in found.items():
        path = os.path.join(BUDGETS, os.path.splitext(os.path.basename(source))[0] + ".json")
        budget = json.load(open(path)) if os.path.exists(path) else {}
        fresh = {}
        for name, by_architecture in sorted(kernels.items()):
            for architecture, figures in by_architecture.items():
                count += 1
                allowed = budget.get(name, {}).get(architecture)
                fresh.setdefault(name, {})[architecture] = {k: figures[k] for k in ("registers", "shared")}
                wrong = []
                if figures["spills"] or figures["stack"]:
                    wrong.append(f"spills {figures['spills']} bytes, stack frame {figures['stack']} bytes")
                if allowed is None and not arguments.update:
                    wrong.append("no budget: run with --update")
                for key in ("registers", "shared"):
                    if allowed is not None and not arguments.update and figures[key] > allowed[key]:
                        wrong.append(f"{key} above the budget of {allowed[key]}")
                print(f"{architecture:7} registers {figures['registers']:3}  shared {figures['shared']:5}  "
                      f"{os.path.basename(source)}: {name}{'  FAIL: ' + '; '.join(wrong) if wrong else ''}")
                problems += [f"{os.path.basename(source)}: {name} for {architecture}: {w}" for w in wrong]
        if arguments.update and fresh:
            os.makedirs(BUDGETS, exist_ok=True)
            with open(path, "w") as out:
                lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in sorted(fresh.items())]
                out.write("{\n" + ",\n".join(lines) + "\n}\n")
    for problem in problems:
        print("ptxas_report: " + problem, file=sys.stderr)
    if not problems:
        print(f"ptxas_report: {count} kernels are within their budgets, none spills")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
