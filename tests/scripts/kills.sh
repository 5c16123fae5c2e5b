#!/usr/bin/env bash
# A training run is killed at random moments and started again, many times: one rank of it or all (SIGKILL), or asked to
# end (SIGTERM); now and then a bit of its newest checkpoint is flipped, and its disk, a small one of its own where we
# are root, is full for a while. It must end with the weights and losses of a run that was left alone.
# usage: tests/scripts/kills.sh UNFURL KILLS SEED [RANKS]
set -euo pipefail
unfurl=$1 kills=$2 RANDOM=$3 ranks=${4:-1}
if [[ -z ${KILLS_FOLDER:-} ]]; then
  KILLS_FOLDER=$(mktemp -d)
  export KILLS_FOLDER
  trap 'rm -rf --one-file-system "$KILLS_FOLDER"' EXIT
  # In a mount namespace of its own, which takes the small disk with it.
  if ((EUID == 0)) && unshare --mount true 2>/dev/null; then
    unshare --mount -- "$0" "$@"
  else
    echo "kills: not root, or no namespaces: the disk is never full"
    "$0" "$@"
  fi
  exit
fi
folder=$KILLS_FOLDER
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 UNFURL_THREADS=1
small_disk=0
mkdir "$folder/runs"
if ((EUID == 0)) && mount -t tmpfs -o size=24m none "$folder/runs" 2>/dev/null; then small_disk=1; fi

"$unfurl" corpus synth --out "$folder" --pairs 300 --seed 5 --heldout-pairs 5 >/dev/null
"$unfurl" tokenizer train "$folder/pairs.jsonl" --out "$folder/tokenizer.model" --vocab-size 420 >"$folder/log" 2>&1
steps=$((kills * 40))
cat >"$folder/recipe.yaml" <<RECIPE
seed: 3
model: {width: 96, layers: 2, heads: 2, head_dim: 48, ff_width: 128, context: 96, dropout: 0.1}
tokenizer: {path: $folder/tokenizer.model}
data: {sources: [{path: $folder/pairs.jsonl}], subword_sampling: 0.05}
batch: {slots: 4, tokens: 192, documents: 16}
optimizer: {learning_rate: 1.0e-3}
train: {steps: $steps, log_every: 1, validate_every: 50, validation_tokens: 500, checkpoint_every: 2, spikes: {policy: skip, window: 8, threshold: 2}}
RECIPE
command=("$unfurl" train "$folder/recipe.yaml" --timeout 30)
if ((ranks > 1)); then command+=(--ranks "$ranks"); fi
die() {
  echo "kills: $1:" >&2
  cat "$folder/log" >&2
  exit 1
}
train() { "${command[@]}" --set output="$folder/runs/$1" >"$folder/log" 2>&1 || die "the run $1 failed"; }
checkpoints() { find "$folder/runs/killed" -maxdepth 1 -name 'step-*[0-9]' 2>/dev/null | sort; }
workers() {  # the ranks, without the command that started them and its mpirun
  for pid in $(pgrep -f "train $folder/recipe.yaml .*runs/killed"); do
    [[ $pid == "$1" || $(cat "/proc/$pid/comm" 2>/dev/null) == mpirun ]] || echo "$pid"
  done
}

started=$(date +%s%N)
train whole
whole=$((($(date +%s%N) - started) / 1000000))
killed=0 flipped=0 filled=0
for ((i = 1; i <= kills; ++i)); do
  # Of two checkpoints the newer one is damaged: the run goes on from the other.
  if ((RANDOM % 4 == 0)) && [[ $(checkpoints | wc -l) -ge 2 ]]; then
    mapfile -t files < <(find "$(checkpoints | tail -1)" -type f | sort)
    file=${files[RANDOM % ${#files[@]}]}
    size=$(stat --format=%s "$file")
    at=$(((RANDOM * 32768 + RANDOM) % size))
    byte=$(od -An -tu1 -j "$at" -N 1 "$file")
    printf "\\x$(printf %02x $((byte ^ 1 << RANDOM % 8)))" | dd of="$file" bs=1 seek="$at" conv=notrunc status=none
    flipped=$((flipped + 1))
  fi
  setsid "${command[@]}" --set output="$folder/runs/killed" >"$folder/log" 2>&1 &
  running=$!
  if ((small_disk && RANDOM % 4 == 0)); then
    sleep 0.$((RANDOM % 4))
    head --bytes=64M /dev/zero >"$folder/runs/filler" 2>/dev/null || true
    filled=$((filled + 1))
  fi
  # On average a kill comes when a further 1/kills of the work is done.
  moment=$((RANDOM % (2 * whole / kills + 100)))
  sleep "$(printf '%d.%03d' $((moment / 1000)) $((moment % 1000)))"
  rm -f "$folder/runs/filler"
  status=0
  {  # the shell's own word on who was killed is of no use
    case $((RANDOM % 3)) in
      0) kill -KILL -- "-$running" && killed=$((killed + 1)) ;;  # all
      1) kill -TERM "$running" && killed=$((killed + 1)) ;;
      2)
        mapfile -t all < <(workers "$running")
        if ((ranks > 1 && ${#all[@]} > 0)); then
          kill -KILL "${all[RANDOM % ${#all[@]}]}" && killed=$((killed + 1))
        else
          kill -KILL "$running" && killed=$((killed + 1))
        fi ;;
    esac || true
    wait "$running" || status=$?
    pkill -KILL -f "train $folder/recipe.yaml .*runs/killed" && sleep 0.2
  } 2>/dev/null || true
  if ((ranks == 1)); then
    case $status in
      0 | 1 | 130 | 137 | 143) ;;  # 1: the last checkpoint did not fit on the disk
      *) die "after kill $i: exit code $status" ;;
    esac
  fi
done
train killed
for run in whole killed; do
  last=$(find "$folder/runs/$run" -maxdepth 1 -name 'step-*' | sort | tail -1)
  sha256sum <"$last/model.safetensors" >"$folder/$run.sum"
  grep '"kind": *"step"' "$folder/runs/$run/metrics.jsonl" | sed 's/.*"loss": *\([^,}]*\).*/\1/' >"$folder/$run.losses"
done
cmp "$folder/whole.sum" "$folder/killed.sum"
cmp "$folder/whole.losses" "$folder/killed.losses"
[[ $(wc -l <"$folder/whole.losses") == "$steps" ]]
left=$(find "$folder/runs/killed" -name '*.tmp' -o -name '*.old' -o -name .ranks)
if [[ -n $left ]]; then
  echo "kills: half-written or half-removed files are left: $left" >&2
  exit 1
fi
echo "kills: $steps steps of $ranks ranks with $killed kills, $flipped flipped bits and $filled full disks ended in the same bits"
