#!/usr/bin/env bash
# Checks and measures everything on this machine's GPU, and needs no registry: what was built with the cuda preset, or
# what an unpacked bundle (scripts/bundle.sh) holds, is run.
# usage: scripts/gpu_check.sh [OPTIONS] [PART ...]        default: all parts
#   correctness    every instruction wrapper, then all tests, then the short ones under compute-sanitizer
#   kernels        the table of kernels, and PyTorch's forms of them
#   training       training steps against PyTorch's forms of them
#   decode         decoding against PyTorch
#   --retry        runs again what failed
#   --again        runs everything again
#   --list         prints what is still to be run, and runs nothing
#   PRESETS="palm-1b palm-125m"   models
#   RESULTS=FILE                  default: benchmarks/results/GPU.md
#   UNFURL_BINARIES=FOLDER        default: bin/ of a bundle, or build/cuda
#   UNFURL_PYTHON=PROGRAM         a Python that has PyTorch
#   FORMS="max-autotune+cudnn"    of PyTorch's training; default: all that torch_gpu.py knows
#   PART_SECONDS=450              no part takes longer; what was not reached is left for the next call
#
# Each result is written when it is there, and what has a result (of these binaries) is not run again: after a kill, or
# when a part's time was up, the same command goes on. Exit code: 0 all is well, 1 something failed, 2 this machine cannot
# run it, 3 something is left to run.
set -uo pipefail

parts=() retry=0 again=0 list=0
for argument in "$@"; do
  case $argument in
    -h | --help) sed -n '2,/^[^#]/{s/^#\( \|$\)//p}' "$0"; exit ;;
    correctness | kernels | training | decode) parts+=("$argument") ;;
    --retry) retry=1 ;;
    --again) again=1 ;;
    --list) list=1 ;;
    *)
      echo "gpu_check: unknown argument '$argument'; see scripts/gpu_check.sh --help" >&2
      exit 2
      ;;
  esac
done
# Relative to where it was called.
if [[ -n ${RESULTS:-} ]]; then RESULTS=$(realpath --canonicalize-missing "$RESULTS"); fi
if [[ -n ${UNFURL_BINARIES:-} ]]; then UNFURL_BINARIES=$(realpath --canonicalize-missing "$UNFURL_BINARIES"); fi
cd "$(dirname "$0")/.." || exit 2
root=$PWD
((${#parts[@]} > 0)) || parts=(correctness kernels training decode)
read -r -a presets <<<"${PRESETS:-palm-1b palm-125m palm-350m}"
part_seconds=${PART_SECONDS:-450}
if [[ ! $part_seconds =~ ^[1-9][0-9]*$ ]]; then
  echo "gpu_check: PART_SECONDS is a number of seconds, not '$part_seconds'" >&2
  exit 2
fi

if [[ -n ${UNFURL_BINARIES:-} ]]; then
  binaries=$UNFURL_BINARIES
elif [[ -d bin ]]; then
  binaries=$root/bin
else
  binaries=$root/build/cuda
fi
for name in kernels_tests core_tests train_tests kernels_gpu_benchmark train_gpu_benchmark decode_gpu_benchmark unfurl; do
  if [[ ! -x $binaries/$name ]]; then
    echo "gpu_check: $binaries has no $name; build with: cmake --preset cuda && cmake --build --preset cuda" >&2
    exit 2
  fi
done
export UNFURL_BINARY=$binaries/unfurl UNFURL_ATELIER=$binaries/atelier UNFURL_SOURCE=$root  # for the tests that use them

# NVIDIA's libraries may come with a toolkit or with Python packages.
source scripts/nvidia_libraries.sh

if ! gpu=$("$binaries/kernels_gpu_benchmark" --device 2>&1); then
  gpu=${gpu##*$'\n'}
  advice=  # a bundle has neither sources nor presets
  if [[ -f CMakePresets.json ]]; then advice="; \`ctest --preset host-cuda\` checks the CUDA kernels on the CPU"; fi
  echo "gpu_check: ${gpu#error: }$advice" >&2
  exit 2
fi

# --- what this machine has ---
found() { printf '  %-18s %s\n' "$1" "$2"; }
first_executable() {
  local candidate
  for candidate in "$@"; do
    if [[ -n $candidate && -x $candidate ]]; then
      echo "$candidate"
      return
    fi
  done
}
library() {  # a library's path, or nothing
  local folder
  for folder in ${LD_LIBRARY_PATH//:/ } /usr/lib/x86_64-linux-gnu /usr/lib64 /usr/local/lib; do
    if [[ -e $folder/$1 ]]; then
      echo "$folder/$1"
      return
    fi
  done
  PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | awk -v name="$1" '$1 == name {print $NF; exit}'
}
sanitizer=$(first_executable "$(command -v compute-sanitizer)" /usr/local/cuda*/bin/compute-sanitizer \
  /opt/nvidia/*/compute-sanitizer /opt/nvidia/*/*/compute-sanitizer)
python=${UNFURL_PYTHON:-$(command -v python3)}
torch=$("$python" -c 'import torch; print(torch.__version__, "cuDNN", torch.backends.cudnn.version())' 2>/dev/null)
# The one of the toolkit that it was built with.
cublaslt_name=$(grep --text --only-matching 'libcublasLt\.so\.[0-9]\+' "$binaries/unfurl" | head -1)
cublaslt_name=${cublaslt_name:-libcublasLt.so.13}
cublaslt=$(library "$cublaslt_name") cudnn=$(library libcudnn.so.9) nccl=$(library libnccl.so.2)

echo "gpu_check: what this machine has"
found GPU "$gpu"
found "$cublaslt_name" "${cublaslt:-MISSING: matrix products, and with them training and decoding, fail}"
found libcudnn.so.9 "${cudnn:-missing: cuDNN is left out}"
found libnccl.so.2 "${nccl:-missing: several GPUs cannot train together}"
found PyTorch "${torch:-missing: ${python:-python3} has no torch; comparisons are left out (UNFURL_PYTHON=PROGRAM chooses another)}"
found compute-sanitizer "${sanitizer:-missing: its checks are left out (looked in PATH, /usr/local/cuda*, /opt/nvidia)}"

# --- the page of results ---
slug=$(tr '[:upper:]' '[:lower:]' <<<"$gpu" | tr -cs 'a-z0-9\n' '-' | sed 's/^-//; s/-$//')
results=${RESULTS:-$root/benchmarks/results/$slug.md}
if ((list)) && [[ ! -e $results ]]; then results=/dev/null; fi
mkdir -p "$(dirname "$results")"
exec 9>>"$results"
if ! flock --timeout 5 9; then
  echo "gpu_check: another one writes to $results" >&2
  exit 2
fi
# What the last one was running when it was killed, with the GPU: a process group, which ends.
left_behind=$results.running
if [[ -s $left_behind ]] && ((list == 0)); then
  group=$(cat "$left_behind")
  if [[ $group =~ ^[0-9]+$ ]] && grep --quiet --text "kill-after" "/proc/$group/cmdline" 2>/dev/null; then
    echo "gpu_check: ending what a killed one left running (process group $group)"
    kill -KILL -- "-$group" 2>/dev/null
    sleep 0.5  # until its output is on the page
  fi
fi
build=$(cat "$binaries"/{kernels_tests,core_tests,train_tests,{kernels,train,decode}_gpu_benchmark,unfurl} | sha256sum)
build=${build:0:12}
if [[ -f VERSION ]]; then  # a bundle's
  commit=$(cat VERSION)
else
  compiler=$("$(first_executable "${CUDACXX:-}" "$(command -v nvcc)" /usr/local/cuda*/bin/nvcc \
    build/nvcc/lib/python3*/site-packages/nvidia/cu*/bin/nvcc)" --version 2>/dev/null |
    sed -n 's/.*release.*, V//p')
  commit="$(git describe --always --dirty 2>/dev/null || echo unknown) (nvcc ${compiler:-unknown})"
fi
say() { printf '%s\n' "$*" | tee -a "$results"; }
# What was interrupted has a heading, but no line that ends it: it goes.
cut_interrupted() {
  local heading
  heading=$(awk '/^### / {heading = NR} /^- \[[x!]\] / {heading = 0} END {print heading + 0}' "$results")
  if ((heading > 0)); then
    head --lines=$((heading - 1)) "$results" >"$results.tmp" && cat "$results.tmp" >"$results"
    rm -f "$results.tmp"
  fi
}
((list)) || cut_interrupted
if ((again)) || ! grep --quiet --fixed-strings "build $build" "$results"; then
  if ((list == 0)); then
    driver=$(sed -n 's/.*Kernel Module[^0-9]*\([0-9.]*\).*/\1/p' /proc/driver/nvidia/version 2>/dev/null)
    driver=${driver:-$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -1)}
    say
    say "# $gpu: unfurl $commit, build $build"
    say
    say "$(date -u '+%Y-%m-%d %H:%M UTC'), driver ${driver:-unknown}, PyTorch ${torch:-none}," \
      "$("$binaries/unfurl" --version 2>/dev/null | head -1), $(nproc) cores"
  fi
fi
# Where the results of this build begin.
section() {
  awk -v build="build $build" '
    /^# / {text = ""; on = index($0, build)}
    on {text = text $0 "\n"}
    END {printf "%s", text}' "$results"
}
has_result() {  # finished, and not to be run again
  local mark
  if ((again)) && [[ " ${done_now[*]-} " != *" $1 "* ]]; then return 1; fi
  mark=$(section | grep --fixed-strings -- "] $1: " | tail -1)
  [[ $mark == "- [x]"* ]] || { [[ $mark == "- [!]"* ]] && { ((retry == 0)) || [[ " ${done_now[*]-} " == *" $1 "* ]]; }; }
}

# --- running ---
done_now=() failed=() left=() part=
work=${TMPDIR:-/tmp}/unfurl_gpu_check.$(id -u)
mkdir -p "$work"
export TORCHINDUCTOR_CACHE_DIR=$work/inductor TRITON_CACHE_DIR=$work/triton
output=$(mktemp "$work/output.XXXXXX")
child=
stop() {
  if [[ -n $child ]]; then
    kill -- "-$child" 2>/dev/null
    wait
  fi
  rm -f "$output"
  ((list)) || rm -f "$left_behind"
}
trap stop EXIT
trap 'exit 130' INT TERM HUP
part_started=$SECONDS

# in_group SECONDS COMMAND...: in a process group of its own, so that all of it can be ended, and without the page's lock.
# `child` is its first process; whoever comes after a kill finds it in a file.
in_group() {
  set -m
  timeout --kill-after=5 "$@" </dev/null 9>&- &
  child=$!
  set +m
  echo "$child" >"$left_behind"
}
ended() {  # waits for it, and returns its exit code
  local status=0
  wait "$child" || status=$?
  child=
  : >"$left_behind"
  return "$status"
}

# item ID SECONDS COMMAND...: runs a command for at most SECONDS; its lines go to the page as they come. With SHOW=failures
# they do so only if it fails; with TOO_LONG=left-out what is not done in time is no failure. A `check` function may look at $output and say what is wrong.
item() {
  local id=$1 limit=$2 status seconds started room time late verdict writer
  shift 2
  if has_result "$id"; then
    if section | grep --fixed-strings -- "] $id: " | tail -1 | grep --quiet '^- \[!\]'; then failed+=("$id"); fi
    return 0
  fi
  room=$((part_seconds - (SECONDS - part_started)))
  if ((list)) || ((room < 5)); then
    left+=("$id")
    return 0
  fi
  started=$SECONDS
  if [[ ${SHOW:-lines} == lines ]]; then
    say
    say "### $id"
    say
    say "\`${*//$root\//}\`"
    say
  fi
  : >"$output"
  time=$((room < limit ? room : limit))
  in_group "$time" "$@" >"$output" 2>&1
  writer=
  if [[ ${SHOW:-lines} == lines ]]; then  # also in the background, as only `wait` lets a signal through
    { tail --pid="$child" --follow --lines=+1 --sleep-interval=0.1 "$output" 2>/dev/null |
      while IFS= read -r line; do say "    $line"; done; } 9>&- &
    writer=$!
  fi
  ended
  status=$?
  if [[ -n $writer ]]; then wait "$writer"; fi
  seconds=$((SECONDS - started))
  late=$((status == 124 || (status == 137 && seconds >= time)))
  if ((late && room < limit)); then  # its own time was not up
    left+=("$id")
    cut_interrupted
    return 0
  fi
  verdict=
  if ((late)) && [[ ${TOO_LONG:-failure} == left-out ]]; then
    done_now+=("$id")
    say "- [x] $id: left out, as it takes longer than $limit s, $(date -u '+%Y-%m-%d %H:%M:%S')"
    return 0
  elif ((late)); then
    verdict="not done after $limit s"
  elif ((status == 137)); then
    verdict="killed (SIGKILL; is the machine's memory full?)"
  elif ((status != 0)); then
    verdict="exit code $status"
  elif declare -F check >/dev/null; then
    verdict=$(check)
  fi
  if [[ ${SHOW:-lines} == lines ]]; then
    say
  elif [[ -n $verdict ]]; then
    say
    say "### $id"
    say
    say "\`${*//$root\//}\`"
    say
    tail --lines=60 "$output" | while IFS= read -r line; do say "    $line"; done
    say
  fi
  done_now+=("$id")
  if [[ -n $verdict ]]; then
    say "- [!] $id: FAILED, $verdict, $seconds s, $(date -u '+%Y-%m-%d %H:%M:%S')"
    failed+=("$id")
  else
    say "- [x] $id: $(if [[ ${SHOW:-lines} == lines ]]; then echo "done"; else summary; fi), $seconds s," \
      "$(date -u '+%Y-%m-%d %H:%M:%S')"
  fi
}
summary() { grep --max-count=1 '^\[  PASSED  \]' "$output" | sed 's/.*PASSED  \] //; s/\.$/ passed/' || echo 'done'; }
# The lines of an item of this build.
lines_of() { section | awk -v id="### $1" '/^### / || /^- \[/ {on = 0} $0 == id {on = 1; next} on {sub(/^    /, ""); print}'; }

suites() { "$binaries/$1" --gtest_list_tests 2>/dev/null | sed -n 's/^\([^ ]*\)\.\( .*\)\?$/\1/p'; }

# --- the parts ---
# Virtual machines may keep compute-sanitizer from their GPU: told once, instead of as a failure of every test.
sanitizer_works() {
  local id="correctness compute-sanitizer" refusal
  if has_result "$id"; then
    if section | grep --fixed-strings -- "] $id: " | tail -1 | grep --quiet 'left out'; then return 1; fi
    return 0
  fi
  if ((list)) || ((part_seconds - (SECONDS - part_started) < 60)); then
    left+=("$id")
    return 0
  fi
  in_group 50 "$sanitizer" --tool memcheck "$binaries/kernels_tests" --gtest_filter='PtxConformance.*' >"$output" 2>&1
  ended
  refusal=$(grep --max-count=1 --ignore-case --extended-regexp 'not supported|unable to|failed to (attach|initialize)|LibraryNotLoaded' "$output")
  done_now+=("$id")
  if [[ -n $refusal ]]; then
    say "- [x] $id: left out, it refuses this machine's GPU: ${refusal##*= }, $(date -u '+%Y-%m-%d %H:%M:%S')"
    return 1
  fi
  say "- [x] $id: it sees this GPU, $(date -u '+%Y-%m-%d %H:%M:%S')"
}

correctness() {
  local binary suite tool
  # Instructions of Hopper alone are not for other GPUs.
  check() {
    if grep '^\[  SKIPPED \] [A-Za-z/]*\.' "$output" | grep --quiet --invert-match 'Hopper'; then echo "tests were skipped"; fi
  }
  SHOW=failures item "correctness wrappers" 240 "$binaries/kernels_tests" --gtest_brief=0 --gtest_filter='PtxConformance.*'
  unset -f check
  for binary in kernels_tests core_tests train_tests; do
    for suite in $(suites "$binary"); do
      SHOW=failures item "correctness $binary $suite" 300 "$binaries/$binary" --gtest_filter="$suite.*"
    done
  done
  if [[ -z $sanitizer ]] || ! sanitizer_works; then return; fi
  for tool in memcheck racecheck synccheck initcheck; do
    for suite in $(suites kernels_tests); do
      TOO_LONG=left-out SHOW=failures item "correctness $tool $suite" 40 "$sanitizer" --tool "$tool" --error-exitcode 9 \
        --require-cuda-init no --print-limit 20 "$binaries/kernels_tests" --gtest_filter="$suite.*"
    done
  done
}

kernels() {
  local preset
  for preset in "${presets[@]}"; do item "kernels $preset" 240 "$binaries/kernels_gpu_benchmark" "$preset"; done
  if [[ -z $torch ]]; then return; fi
  for preset in "${presets[@]}"; do
    item "kernels $preset PyTorch" 300 "$python" benchmarks/peers/torch_gpu.py kernels "$preset"
  done
}

# What both are given: weights, tokens, and the losses to be met. 124 where the part's time is up.
export_work() {
  local folder=$work/exports/$1-$build
  if [[ -s $folder/losses ]] || ((list)); then return 0; fi
  mkdir -p "$work/exports"
  find "$work/exports" -mindepth 1 -maxdepth 1 -type d ! -name "*-$build" -exec rm -rf --one-file-system {} +  # of other builds
  rm -rf --one-file-system "$folder"
  in_time "$output" export "$folder" "$1" && in_time "$folder/losses.tmp" losses "$losses" "$1" &&
    mv "$folder/losses.tmp" "$folder/losses"
}
in_time() {  # OUTPUT ARGUMENTS...: train_gpu_benchmark, while the part's time is not up
  local room=$((part_seconds - (SECONDS - part_started))) to=$1
  shift
  ((room >= 5)) || return 124
  in_group "$room" "$binaries/train_gpu_benchmark" "$@" >"$to" 2>"$output"
  ended
}
losses=20  # compared
tokens_per_second() { sed -n 's/.*: *\([0-9.]*\) tokens\/s.*/\1/p' | tail -1; }
median() { sort -n | awk '{v[NR] = $1} END {if (NR > 0) print (v[int((NR + 1) / 2)] + v[int((NR + 2) / 2)]) / 2}'; }

# Whether the form's losses were ours: its speed counts only then.
trusted() { section | grep --fixed-strings -- "] training $1 PyTorch $2: " | tail -1 | grep --quiet '^- \[x\]'; }

training() {
  local preset
  for preset in "${presets[@]}"; do item "training $preset" 240 "$binaries/train_gpu_benchmark" speed "$preset"; done
  if [[ -z $torch ]]; then return; fi
  for preset in "${presets[@]}"; do against_torch "$preset"; done
}
against_torch() {
  local preset=$1 form forms rate best='' best_rate=0 round ours=() theirs=() a b status reason
  export_work "$preset"
  status=$?
  if ((status == 124 || (status == 137 && SECONDS - part_started >= part_seconds))); then
    left+=("training $preset export")
    return
  elif ((status != 0)); then
    reason=$(tail -1 "$output")
    if ((status == 137)); then reason="killed (SIGKILL; is the machine's memory full?)"; fi
    say "- [!] training $preset export: FAILED, ${reason:-exit code $status}, $(date -u '+%Y-%m-%d %H:%M:%S')"
    failed+=("training $preset export")
    return
  fi
  read -r -d '' -a forms <<<"${FORMS:-$("$python" benchmarks/peers/torch_gpu.py forms)}" || true
  for form in "${forms[@]}"; do
    item "training $preset PyTorch $form" 300 "$python" benchmarks/peers/torch_gpu.py train "$work/exports/$preset-$build" "$form"
    rate=$(lines_of "training $preset PyTorch $form" | tokens_per_second)
    if [[ -n $rate ]] && trusted "$preset" "$form" && awk -v a="$rate" -v b="$best_rate" 'BEGIN {exit !(a > b)}'; then
      best=$form best_rate=$rate
    fi
  done
  if [[ -z $best || " ${left[*]-} " == *"training $preset PyTorch "* ]]; then return; fi
  for round in 1 2 3; do
    item "training $preset round $round" 180 "$binaries/train_gpu_benchmark" speed "$preset"
    item "training $preset round $round PyTorch $best" 300 \
      "$python" benchmarks/peers/torch_gpu.py train "$work/exports/$preset-$build" "$best"
    ours+=("$(lines_of "training $preset round $round" | tokens_per_second)")
    theirs+=("$(lines_of "training $preset round $round PyTorch $best" | tokens_per_second)")
  done
  if [[ " ${left[*]-} " == *"training $preset round "* ]] || ((list)); then return; fi
  a=$(printf '%s\n' "${ours[@]}" | grep . | median) b=$(printf '%s\n' "${theirs[@]}" | grep . | median)
  if [[ -n $a && -n $b ]] && ! has_result "training $preset in all"; then
    say "- [x] training $preset in all: $a tokens/s, PyTorch ($best) $b," \
      "ratio $(awk -v a="$a" -v b="$b" 'BEGIN {printf "%.3f", a / b}') (medians of 3 rounds in alternation)," \
      "$(date -u '+%Y-%m-%d %H:%M:%S')"
  fi
}

decode() {
  local preset
  for preset in "${presets[@]}"; do item "decode $preset" 180 "$binaries/decode_gpu_benchmark" "$preset"; done
  if [[ -z $torch ]]; then return; fi
  for preset in "${presets[@]}"; do
    item "decode $preset PyTorch" 300 "$python" benchmarks/peers/torch_gpu.py decode "$preset"
  done
}

for part in "${parts[@]}"; do
  part_started=$SECONDS
  if ((list == 0)) && ! section | grep --quiet --line-regexp --fixed-strings "## $part"; then
    say
    say "## $part"
  fi
  "$part"
done

if ((list)); then
  printf '%s\n' "${left[@]-}" | grep . || echo "gpu_check: nothing is left to run"
  exit 0
fi
echo "gpu_check: results are in $results"
if ((${#left[@]} > 0)); then
  echo "gpu_check: ${#left[@]} left to run, the first: ${left[0]}; run the same command again"
fi
if ((${#failed[@]} > 0)); then
  echo "gpu_check: ${#failed[@]} FAILED: $(printf '%s; ' "${failed[@]}")"
  exit 1
fi
((${#left[@]} == 0)) || exit 3
echo "gpu_check: all is well"
