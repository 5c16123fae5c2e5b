#!/usr/bin/env bash
# What checkpoints, written by a thread beside training, cost a run of palm-25m on this machine's processor: runs with
# two checkpoints and with none alternate; the difference of their medians is spread over a minute, as of a run that
# writes one a minute. Wants an idle machine, and says how busy it was.
# usage: benchmarks/checkpoint_cost.sh [--help] [UNFURL]     default: build/cpu/unfurl
#   ROUNDS=3       runs of each kind
#   STEPS=60       steps of a run, a multiple of 30: timed from the 10th to the last, a checkpoint behind each third
#   FOLDER=        where the runs lie, on the disk in question (default: a temporary folder)
#   OUT=benchmarks/results/checkpoints.md
case ${1:-} in
  -h | --help) sed -n '2,/^[^#]/{s/^#\( \|$\)//p}' "$0"; exit ;;
esac
set -euo pipefail
cd "$(dirname "$0")/.."
unfurl=${1:-build/cpu/unfurl}
rounds=${ROUNDS:-3} steps=${STEPS:-60} out=${OUT:-benchmarks/results/checkpoints.md}
if [[ ! -x $unfurl ]]; then
  echo "error: there is no $unfurl; build it: cmake --preset cpu && cmake --build --preset cpu --target unfurl" >&2
  exit 2
fi
if [[ ! $steps =~ ^[0-9]+$ ]] || ((steps == 0 || steps % 30 != 0)); then
  echo "error: STEPS is '$steps', not a multiple of 30" >&2
  exit 2
fi
folder=$(mktemp -d -p "${FOLDER:-${TMPDIR:-/tmp}}")
trap 'rm -rf --one-file-system "$folder"' EXIT

"$unfurl" corpus synth --out "$folder" --pairs 5000 --seed 5 --heldout-pairs 5 >/dev/null
"$unfurl" tokenizer train "$folder/pairs.jsonl" --out "$folder/tokenizer.model" --vocab-size 4096 >"$folder/log" 2>&1

# run EVERY: appends the seconds from the 10th to the last step to $folder/EVERY
run() {
  cat >"$folder/recipe.yaml" <<RECIPE
output: $folder/run
seed: 3
device: cpu
model: {preset: palm-25m, context: 128}
tokenizer: {path: $folder/tokenizer.model}
data: {sources: [{path: $folder/pairs.jsonl}]}
batch: {slots: 1, tokens: 1024, documents: 32}
optimizer: {learning_rate: 1.0e-3}
train: {steps: $steps, log_every: 10, validate_every: 0, validation_tokens: 1, checkpoint_every: $1}
RECIPE
  if ! "$unfurl" train "$folder/recipe.yaml" --fresh >"$folder/log" 2>&1; then
    cat "$folder/log" >&2
    exit 1
  fi
  python3 - "$folder/run/metrics.jsonl" "$steps" >>"$folder/$1" <<'PYTHON'
import json, sys
seconds = {}
for line in open(sys.argv[1]):
    metric = json.loads(line)
    if metric["kind"] == "step":
        seconds[metric["step"]] = metric["seconds"]
print(seconds[int(sys.argv[2])] - seconds[10])
PYTHON
}

load=$(cut -d' ' -f1 /proc/loadavg)
for ((round = 0; round < rounds; ++round)); do
  run $((steps / 3))
  run 0
done
bytes=$(du -sb "$folder/run/step-"* | sort -n | tail -1 | cut -f1)
{
  echo "# What checkpoints beside training cost"
  echo
  echo "$(date -u +%Y-%m-%d). $(grep -m1 'model name' /proc/cpuinfo | sed 's/.*: //'), $(nproc) cores. Written by \`benchmarks/checkpoint_cost.sh\`:"
  echo "medians of $rounds runs each, palm-25m, 1,024 tokens a step, f32. Load average before the first run $load, behind the last"
  echo "$(cut -d' ' -f1 /proc/loadavg): what is far above the number of cores was other processes'."
  echo
  python3 - "$folder/$((steps / 3))" "$folder/0" "$steps" "$bytes" <<'PYTHON'
import statistics, sys
with_them, without = (sorted(float(line) for line in open(path)) for path in sys.argv[1:3])
steps, size = int(sys.argv[3]) - 10, int(sys.argv[4])
a, b = statistics.median(with_them), statistics.median(without)
print(f"| {steps} steps | seconds: median | all |\n|---|---|---|")
for name, middle, all_of_them in (("two checkpoints", a, with_them), ("none", b, without)):
    print(f"| {name} | {middle:.2f} | {', '.join(f'{x:.2f}' for x in all_of_them)} |")
cost = (a - b) / 2
print(f"\nA checkpoint ({size / 1e6:.0f} MB) takes {cost:.2f} s of training: one a minute costs {100 * cost / 60:.1f} %.")
PYTHON
} >"$folder/table"
cp "$folder/table" "$out"
cat "$out"
