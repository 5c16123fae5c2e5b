#!/usr/bin/env python3
"""Damages every kind of file that unfurl reads, at random, and runs it on them: never a crash, a hang or a report of a
sanitizer; an exit code of 0, 1 or 2, and with 1 and 2 one line that begins with "error: ".

usage: tests/scripts/fuzz.py UNFURL [--cases N] [--seed N] [--jobs N] [--case N]

A failure prints the number of its case; --case runs that one alone and keeps its files.
"""
import argparse
import concurrent.futures
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

SECONDS = 60  # a case may take
WORDS = [b"null", b"-1", b"0", b"1e309", b"nan", b"18446744073709551616", b"9223372036854775807", b"true", b"\"", b"{",
         b"}", b"[", b"]", b":", b"\n", b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"%s", b"../", b"&a *a",
         b"<<: ", b"!!binary ", b"\\u0000", b"\\ud800", b"- ", b"  ", b"\t", b"F64", b"[[[[[[[[" * 50]
RECIPE = """seed: 3
model: {{width: 32, layers: 2, heads: 2, head_dim: 16, ff_width: 48, context: 96, dropout: 0.1}}
tokenizer: {{path: {folder}/tokenizer.model}}
data:
  sources: [{{path: {folder}/pairs.jsonl, weight: 2}}]
  subword_sampling: 0.05
batch: {{slots: 2, micro_batches: 2, tokens: 256, documents: 16}}
optimizer: {{learning_rate: 1.0e-2}}
schedule: {{warmup_steps: 2}}
train: {{steps: 3, log_every: 1, validate_every: 3, validation_tokens: 500}}
samples: {{queries: [a fox], n: 1, max_tokens: 4}}
"""
REQUESTS = b'{"query": "a fox", "n": 1, "seed": 3, "max_tokens": 4}\n{"query": "(a fox:1.2)", "ban": ["red"]}\n'


def damage(data, draw):
    data = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(len(data) + 1)
        until = min(len(data), at + draw.choice((1, 2, 8, 64)))
        kind = draw.randrange(7)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del data[at:until]
        elif kind == 2:
            data[at:at] = data[at:until] * draw.choice((1, 2, 50))
        elif kind == 3:
            data[at:at] = draw.choice(WORDS)
        elif kind == 4:
            data[at:until] = draw.choice(WORDS)
        elif kind == 5:
            data[at:at] = draw.randbytes(draw.choice((1, 4, 16)))
        elif draw.randrange(4) == 0:
            del data[at:]
    return bytes(data)


def run(command, environment=None, stdin=b""):
    return subprocess.run(command, input=stdin, capture_output=True, timeout=SECONDS, env=environment)


class Fuzzer:
    def __init__(self, unfurl, folder, seed):
        self.unfurl, self.folder, self.seed = str(pathlib.Path(unfurl).resolve()), folder, seed
        self.environment = dict(os.environ, ASAN_OPTIONS="exitcode=99:detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=8192",
                                UBSAN_OPTIONS="exitcode=99")
        self.make("corpus", "synth", "--out", folder, "--pairs", "200", "--seed", "5", "--heldout-pairs", "5")
        self.make("tokenizer", "train", folder / "pairs.jsonl", "--out", folder / "tokenizer.model", "--vocab-size", "420")
        (folder / "recipe.yaml").write_text(RECIPE.format(folder=folder))
        self.make("train", folder / "recipe.yaml", "--set", f"output={folder}/run")
        (folder / "prompts.txt").write_text("a red fox, oil painting\na tower, golden light, 4k\n" * 20)
        (folder / "ban.txt").write_text("greg rutkowski\nred fox\n")
        # In a run's folder all is read by `inspect`, `expand` and a `train` that goes on.
        self.run_files = [p.relative_to(folder / "run") for p in sorted((folder / "run").rglob("*")) if p.is_file()]

    def make(self, *arguments):
        done = run([self.unfurl, *map(str, arguments)], self.environment)
        if done.returncode != 0:
            sys.exit(f"fuzz: {' '.join(map(str, arguments))}: exit code {done.returncode}: {done.stderr.decode()}")

    def case(self, number, own):
        """What is wrong, or "", and the command."""
        draw = random.Random(f"{self.seed}:{number}")
        stdin = b""

        def copy(name):
            to = own / pathlib.Path(name).name
            to.write_bytes(damage((self.folder / name).read_bytes(), draw))
            return to

        kind = draw.randrange(9)
        if kind == 0:
            command = ["plan", copy("recipe.yaml")]
        elif kind == 1:
            command = ["corpus", "show", copy("pairs.jsonl"), "--tokenizer", self.folder / "tokenizer.model"]
        elif kind == 2:
            command = ["corpus", "show", self.folder / "pairs.jsonl", "--tokenizer", copy("tokenizer.model")]
        elif kind == 3:
            command = ["corpus", "pairs", "--prompts", copy("prompts.txt"), "--out", own / "pairs.jsonl"]
        elif kind == 4:
            command = ["tokenizer", "train", copy("pairs.jsonl"), "--out", own / "t.model", "--vocab-size", "420"]
        elif kind == 5:
            command = ["expand", self.folder / "run", "--jsonl"]
            stdin = damage(REQUESTS, draw)
        elif kind == 6:
            command = ["expand", self.folder / "run", "a fox", "-n", "1", "--seed", "1", "--ban", copy("ban.txt")]
        else:
            shutil.copytree(self.folder / "run", own / "run")
            at = own / "run" / draw.choice(self.run_files)
            at.write_bytes(damage(at.read_bytes(), draw))
            command = draw.choice((["inspect", own / "run", "--tensors"], ["expand", own / "run", "a fox", "-n", "1", "--seed", "1"],
                                   ["train", self.folder / "recipe.yaml", "--set", f"output={own}/run"]))
        command = [self.unfurl, *map(str, command)]
        try:
            done = run(command, self.environment, stdin)
        except subprocess.TimeoutExpired:
            return f"not done after {SECONDS} s", command
        error = done.stderr.decode(errors="replace")
        if done.returncode not in (0, 1, 2):
            return f"exit code {done.returncode}: {error[-2000:]}", command
        told = [line for line in error.splitlines() if line.startswith("error: ")]
        if done.returncode != 0 and len(told) != 1:
            return f"exit code {done.returncode} with {len(told)} lines of error: {error[-2000:]}", command
        return "", command


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("unfurl")
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--case", type=int)
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="unfurl-fuzz."))
    (folder / "made").mkdir()
    fuzzer = Fuzzer(options.unfurl, folder / "made", options.seed)

    def attempt(number):
        own = folder / str(number)
        own.mkdir()
        try:
            wrong, command = fuzzer.case(number, own)
        finally:
            if options.case is None:
                shutil.rmtree(own)
        if wrong:
            print(f"fuzz: case {number} (--seed {options.seed} --case {number}): {' '.join(command)}: {wrong}", flush=True)
        return bool(wrong)

    if options.case is not None:
        print(f"fuzz: the files are in {folder}")
        return attempt(options.case)
    try:
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            wrong = sum(pool.map(attempt, range(options.cases)))
    finally:
        shutil.rmtree(folder)
    print(f"fuzz: {options.cases} cases, {wrong} of them wrong")
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
