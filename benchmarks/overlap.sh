#!/usr/bin/env bash
# What the exchange between ranks costs a training step on this machine's processor, with the sums of gradients beside
# backward (train.overlap) and behind it: palm-tiny and palm-25m on 1, 2 and 4 ranks over Open MPI. Runs of both kinds
# alternate; the table has the medians. Wants an idle machine, and says how busy it was.
# usage: benchmarks/overlap.sh [--help] [UNFURL]     default: build/cpu/unfurl
#   ROUNDS=3       runs of each kind
#   STEPS=10       steps of a run
#   MODELS="palm-tiny palm-25m"
#   RANKS="1 2 4"
#   TOKENS=256     of a slot; there are four
#   OUT=benchmarks/results/overlap.md
case ${1:-} in
  -h | --help) sed -n '2,/^[^#]/{s/^#\( \|$\)//p}' "$0"; exit ;;
esac
set -euo pipefail
cd "$(dirname "$0")/.."
unfurl=${1:-build/cpu/unfurl}
rounds=${ROUNDS:-3} steps=${STEPS:-10} tokens=${TOKENS:-256} out=${OUT:-benchmarks/results/overlap.md}
read -ra models <<<"${MODELS:-palm-tiny palm-25m}"
read -ra ranks <<<"${RANKS:-1 2 4}"
if [[ ! -x $unfurl ]]; then
  echo "error: there is no $unfurl; build it: cmake --preset cpu && cmake --build --preset cpu --target unfurl" >&2
  exit 2
fi
folder=$(mktemp -d)
trap 'rm -rf --one-file-system "$folder"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

"$unfurl" corpus synth --out "$folder" --pairs 5000 --seed 5 --heldout-pairs 5 >/dev/null
"$unfurl" tokenizer train "$folder/pairs.jsonl" --out "$folder/tokenizer.model" --vocab-size 4096 >"$folder/log" 2>&1
cores=$(nproc)

# run MODEL RANKS OVERLAP: appends a line of its figures to $folder/MODEL-RANKS-OVERLAP
run() {
  local threads=$((cores / $2 > 0 ? cores / $2 : 1)) run=$folder/run
  cat >"$folder/recipe.yaml" <<RECIPE
output: $run
seed: 3
device: cpu
model: {preset: $1, context: 128}
tokenizer: {path: $folder/tokenizer.model}
data: {sources: [{path: $folder/pairs.jsonl}]}
batch: {slots: 4, tokens: $tokens, documents: 32}
optimizer: {learning_rate: 1.0e-3}
train: {steps: $steps, validate_every: 0, validation_tokens: 1, checkpoint_every: 0, overlap: $3}
RECIPE
  local command=("$unfurl" train "$folder/recipe.yaml" --fresh)
  if (($2 > 1)); then
    command=(mpirun --oversubscribe --bind-to none -n "$2" "${command[@]}")
  fi
  if ! UNFURL_THREADS=$threads "${command[@]}" >"$folder/log" 2>&1; then
    cat "$folder/log" >&2
    exit 1
  fi
  python3 - "$run/run.json" >>"$folder/$1-$2-$3" <<'PYTHON'
import json, sys
run = json.load(open(sys.argv[1]))
c = run["communication"]
print(run["parameters"], *(c[key] for key in ("seconds_per_step", "collective_seconds_per_step",
                                              "exposed_seconds_per_step", "bytes_sent_per_step")))
PYTHON
}

load=$(cut -d' ' -f1 /proc/loadavg)
for ((round = 0; round < rounds; ++round)); do
  for model in "${models[@]}"; do
    for r in "${ranks[@]}"; do
      for overlap in true false; do
        if ((r == 1)) && [[ $overlap == false ]]; then continue; fi
        run "$model" "$r" "$overlap"
      done
    done
  done
done
{
  echo "# Communication of a training step by number of ranks"
  echo
  echo "$(date -u +%Y-%m-%d). $(grep -m1 'model name' /proc/cpuinfo | sed 's/.*: //'), $cores cores. Written by \`benchmarks/overlap.sh\`:"
  echo "medians of $rounds runs of $steps steps, four slots of $tokens tokens, f32, ranks over Open MPI on this one machine, which share"
  echo "its cores: $cores threads in all, but at least one a rank. Load average before the first run $load, behind the last $(cut -d' ' -f1 /proc/loadavg):"
  echo "what is far above the number of cores was other processes', and times are only as good as that."
  echo
  echo "collectives: while one was under way on rank 0, waits for slower ranks included. exposed: while the step waited for one."
  echo
  echo "| model | weights | ranks | sums beside backward | step, ms | collectives, ms | exposed, ms | exposed of step | sent a rank, MB |"
  echo "|---|---|---|---|---|---|---|---|---|"
  for model in "${models[@]}"; do
    for r in "${ranks[@]}"; do
      for overlap in true false; do
        if [[ -e $folder/$model-$r-$overlap ]]; then
          python3 -c '
import statistics, sys
model, ranks, overlap, path = sys.argv[1:]
rows = [[float(x) for x in line.split()] for line in open(path)]
weights, step, collectives, exposed, sent = (statistics.median(column) for column in zip(*rows))
shown = "-" if ranks == "1" else "yes" if overlap == "true" else "no"
print(f"| {model} | {weights:,.0f} | {ranks} | {shown} | {1e3 * step:.1f} | {1e3 * collectives:.1f} | "
      f"{1e3 * exposed:.1f} | {100 * exposed / step:.1f} % | {sent / 1e6:.1f} |")' "$model" "$r" "$overlap" "$folder/$model-$r-$overlap"
        fi
      done
    done
  done
} >"$folder/table"
cp "$folder/table" "$out"
cat "$out"
