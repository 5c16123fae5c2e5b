#!/usr/bin/env bash
# unfurl against PyTorch on this machine's processor: the same weights, tokens and optimiser; palm-25m on full documents
# of 128 tokens. Checks that both compute the same losses, finds PyTorch's fastest form in a small grid, then measures
# both in alternation: training and greedy decoding. Some ten minutes; wants an idle machine, and says when it was not.
# usage: benchmarks/train_cpu.sh [RECIPE]
#   ROUNDS=5    of the alternation
#   STEPS=4     training steps a measurement
#   WAIT=60     seconds to wait, before each measurement, for other processes to leave the machine alone
set -euo pipefail
cd "$(dirname "$0")/.."
recipe=${1:-benchmarks/train_cpu.yaml}
rounds=${ROUNDS:-5} steps=${STEPS:-4} wait=${WAIT:-60} tokens=64

scripts/setup.sh
as_root=()
if ((EUID != 0)); then as_root=(sudo); fi
peers=(python3-torch python3-numpy libblis4-openmp libblis4-pthread libopenblas0-pthread)
dpkg-query --show "${peers[@]}" >/dev/null 2>&1 ||
  "${as_root[@]}" apt-get install --quiet=2 --yes --no-install-recommends "${peers[@]}"
cmake --preset cpu >/dev/null
cmake --build --preset cpu --target train_benchmark
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cp build/cpu/train_benchmark "$folder"  # a build in the meantime must not show
ours() { "$folder/train_benchmark" "$@" "$recipe"; }
# peer ENVIRONMENT MODE COUNT OPTIONS...
peer() { env $1 /usr/bin/python3 benchmarks/peers/torch_cpu.py "$2" "$folder" "${@:3}"; }

ticks() { awk '/^cpu / {print $2 + $3 + $4 + $7 + $8 + $9, $2 + $3 + $4 + $5 + $6 + $7 + $8 + $9}' /proc/stat; }
# Waits until the processors were 90 % idle for a second, or for $wait seconds.
wait_for_quiet() {
  local end=$((SECONDS + wait)) before after
  while ((SECONDS < end)); do
    before=$(ticks); sleep 1; after=$(ticks)
    if awk -v b="$before" -v a="$after" 'BEGIN {split(b, x); split(a, y); exit !(y[1] - x[1] < 0.1 * (y[2] - x[2]))}'
    then return; fi
  done
}
# Runs a measurement; prints its tokens/s and the percentage of the machine that went to other processes meanwhile.
measure() {
  wait_for_quiet
  local before after
  before=$(ticks)
  { TIMEFORMAT='%U %S'; time "$@" >"$folder/out" 2>"$folder/errors"; } 2>"$folder/time" ||
    { cat "$folder/errors" >&2; return 1; }
  after=$(ticks)
  awk -v b="$before" -v a="$after" -v hz="$(getconf CLK_TCK)" -v time="$(tail -1 "$folder/time")" '
    {split(b, x); split(a, y); split(time, used)
     other = y[1] - x[1] - (used[1] + used[2]) * hz
     printf "%s %.0f\n", $1, 100 * (other > 0 ? other : 0) / (y[2] - x[2])}' "$folder/out"
}
median() { sort -n | awk '{v[NR] = $1} END {print (v[int((NR + 1) / 2)] + v[int((NR + 2) / 2)]) / 2}'; }

library=/usr/lib/$(gcc -print-multiarch 2>/dev/null || echo x86_64-linux-gnu)
threads=$(nproc)
common="OMP_NUM_THREADS=$threads"
pinned="$common OMP_PROC_BIND=true"
kept="MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000"  # freed memory stays with the process
blis_openmp="LD_PRELOAD=$library/blis-openmp/libblas.so.3 BLIS_NUM_THREADS=$threads"
blis_pthread="LD_PRELOAD=$library/blis-pthread/libblas.so.3 BLIS_NUM_THREADS=$threads"
openblas="LD_PRELOAD=$library/libopenblas.so.0 OPENBLAS_NUM_THREADS=$threads"

# NAME | ENVIRONMENT | OPTIONS
training_forms=(
  "default | $common |"
  "OpenBLAS | $common $openblas |"
  "BLIS (pthread) | $common $blis_pthread |"
  "BLIS (OpenMP) | $common $blis_openmp |"
  "BLIS (OpenMP), pinned | $pinned $blis_openmp |"
  "BLIS (OpenMP), pinned, gradients kept | $pinned $blis_openmp | --keep-gradients"
  "BLIS (OpenMP), pinned, gradients and memory kept | $pinned $blis_openmp $kept | --keep-gradients"
  "BLIS (OpenMP), pinned, all kept, foreach | $pinned $blis_openmp $kept | --keep-gradients --foreach"
  "BLIS (OpenMP), pinned, all kept, traced | $pinned $blis_openmp $kept | --keep-gradients --jit"
  "OpenBLAS, all kept | $common $openblas $kept | --keep-gradients"
)
decoding_forms=(
  "default | $common |"
  "OpenBLAS, mv | $common $openblas | --mv"
  "OpenBLAS, mv, scripted | $common $openblas | --mv --jit"
  "BLIS (OpenMP), pinned | $pinned $blis_openmp |"
  "BLIS (OpenMP), pinned, scripted | $pinned $blis_openmp | --jit"
  "BLIS (OpenMP), pinned, mv, scripted | $pinned $blis_openmp | --mv --jit"
  "BLIS (OpenMP), one thread, scripted | OMP_NUM_THREADS=1 $blis_openmp BLIS_NUM_THREADS=1 | --jit"
  "OpenBLAS, int8 by oneDNN, scripted | $common $openblas | --int8 onednn --jit"
  "OpenBLAS, int8 by QNNPACK, scripted | $common $openblas | --int8 qnnpack --jit"
  "OpenBLAS, bfloat16, scripted | $common $openblas | --bf16 --jit"
  "OpenBLAS, one thread, mv, scripted | OMP_NUM_THREADS=1 $openblas OPENBLAS_NUM_THREADS=1 | --mv --jit"
)

field() { echo "$1" | awk -F' *[|] *' -v i="$2" '{print $i}'; }
# run_form FORM MODE COUNT
run_form() {
  local options
  options=$(field "$1" 3)
  measure peer "$(field "$1" 2)" "$2" "$3" $options
}

# grid MODE COUNT FORM...: measures each form and leaves the fastest in $best
grid() {
  local mode=$1 count=$2 form result rate best_rate=0
  shift 2
  echo
  echo "== $mode: PyTorch's forms, the better of two runs each =="
  for form in "$@"; do
    rate=0
    for _ in 1 2; do
      result=$(run_form "$form" "$mode" "$count")
      rate=$(awk -v a="$rate" -v b="${result% *}" 'BEGIN {print (a > b ? a : b)}')
    done
    printf '%8.1f tokens/s  %s\n' "$rate" "$(field "$form" 1)"
    if awk -v a="$rate" -v b="$best_rate" 'BEGIN {exit !(a > b)}'; then best=$form best_rate=$rate; fi
  done
}
# rounds OUR_MODE MODE COUNT FORM: unfurl and one of PyTorch's forms in alternation
rounds() {
  local ours_mode=$1 mode=$2 count=$3 form=$4 name ours_rates=() peer_rates=() ratios=() a b i
  name="$ours_mode: unfurl against PyTorch ($(field "$form" 1))"
  echo
  echo "== $name; in brackets the share of the machine that others took =="
  for ((i = 1; i <= rounds; ++i)); do
    a=$(measure ours "$ours_mode" "$count")
    b=$(run_form "$form" "$mode" "$count")
    ours_rates+=("${a% *}") peer_rates+=("${b% *}")
    ratios+=("$(awk -v a="${a% *}" -v b="${b% *}" 'BEGIN {printf "%.3f", a / b}')")
    echo "round $i: unfurl ${a% *} tokens/s (${a#* } %), PyTorch ${b% *} tokens/s (${b#* } %), ratio ${ratios[-1]}"
  done
  echo "$name: $(printf '%s\n' "${ours_rates[@]}" | median) and $(printf '%s\n' "${peer_rates[@]}" | median)" \
    "tokens/s, ratio $(printf '%s\n' "${ratios[@]}" | median) (medians of $rounds rounds)"
}

date -u +%Y-%m-%d
grep -m1 'model name' /proc/cpuinfo | sed 's/.*: //'
echo "$threads threads; $(dpkg-query --show --showformat='${Package} ${Version}; ' "${peers[@]}")"
ours export "$folder"

echo
echo "== losses of the first 20 steps: unfurl, PyTorch, relative difference =="
ours losses 20 >"$folder/ours"
peer "OMP_NUM_THREADS=1 $blis_openmp BLIS_NUM_THREADS=1" losses 20 >"$folder/peer"
paste "$folder/ours" "$folder/peer" | awk '
  {d = ($1 - $2) / $2; if (d < 0) d = -d; if (d > greatest) greatest = d; printf "%.6f %.6f %.1e\n", $1, $2, d}
  END {printf "greatest difference %.1e (at most 1e-4)\n", greatest; exit greatest > 1e-4}'

echo
echo "== where the time of our step goes =="
wait_for_quiet
ours profile "$steps"

grid speed "$steps" "${training_forms[@]}"
rounds speed speed "$steps" "${training_forms[3]}"  # a BLAS preloaded, nothing else changed
rounds speed speed "$steps" "$best"                 # and with all that PyTorch can be tuned by
grid decode "$tokens" "${decoding_forms[@]}"
rounds decode decode "$tokens" "$best"
rounds decode-f32 decode "$tokens" "$best"
