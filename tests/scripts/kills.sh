#!/usr/bin/env bash
# A training run is killed (SIGKILL, every third time SIGTERM) at random moments and started again, many times; it must
# end with the weights and losses of a run that was left alone.
# usage: tests/scripts/kills.sh UNFURL KILLS SEED
set -euo pipefail
unfurl=$1 kills=$2 RANDOM=$3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$unfurl" corpus synth --out "$folder" --pairs 300 --seed 5 --heldout-pairs 5 >/dev/null
"$unfurl" tokenizer train "$folder/pairs.jsonl" --out "$folder/tokenizer.model" --vocab-size 420 >"$folder/log" 2>&1
steps=$((kills * 12))
cat >"$folder/recipe.yaml" <<RECIPE
seed: 3
model: {width: 32, layers: 2, heads: 2, head_dim: 16, ff_width: 48, context: 96, dropout: 0.1}
tokenizer: {path: $folder/tokenizer.model}
data: {sources: [{path: $folder/pairs.jsonl}], subword_sampling: 0.05}
batch: {slots: 2, micro_batches: 2, tokens: 256, documents: 16}
optimizer: {learning_rate: 1.0e-3}
train: {steps: $steps, log_every: 1, validate_every: 50, validation_tokens: 500, checkpoint_every: 5}
RECIPE
train() { "$unfurl" train "$folder/recipe.yaml" --set output="$folder/$1" >"$folder/log" 2>&1; }

started=$(date +%s%N)
train whole || { cat "$folder/log"; exit 1; }
whole=$((($(date +%s%N) - started) / 1000000))
killed=0
for ((i = 1; i <= kills; ++i)); do
  "$unfurl" train "$folder/recipe.yaml" --set output="$folder/killed" >"$folder/log" 2>&1 &
  running=$!
  # On average a kill comes when a further 1/kills of the work is done.
  moment=$((RANDOM % (2 * whole / kills + 20)))
  sleep "$(printf '%d.%03d' $((moment / 1000)) $((moment % 1000)))"
  if ((i % 3 == 0)); then signal=TERM; else signal=KILL; fi
  status=0
  {  # the shell's own word on who was killed is of no use
    if kill "-$signal" "$running"; then killed=$((killed + 1)); fi
    wait "$running" || status=$?
  } 2>/dev/null
  case $status in
    0 | 130 | 137 | 143) ;;
    *)
      echo "kills: after kill $i (SIG$signal): exit code $status:" >&2
      cat "$folder/log" >&2
      exit 1 ;;
  esac
done
train killed || { cat "$folder/log"; exit 1; }
for run in whole killed; do
  last=$(find "$folder/$run" -maxdepth 1 -name 'step-*' | sort | tail -1)
  sha256sum <"$last/model.safetensors" >"$folder/$run.sum"
  grep '"kind": *"step"' "$folder/$run/metrics.jsonl" | sed 's/.*"loss": *\([^,}]*\).*/\1/' >"$folder/$run.losses"
done
cmp "$folder/whole.sum" "$folder/killed.sum"
cmp "$folder/whole.losses" "$folder/killed.losses"
[[ $(wc -l <"$folder/whole.losses") == "$steps" ]]
echo "kills: $steps steps with $killed kills ended in the same bits"
