#!/usr/bin/env bash
# scripts/gpu_check.sh with a folder of programs that only pretend: what it runs, what it writes, what it says without a
# GPU, and that after a kill it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/bin" "$folder/tmp"
export TMPDIR=$folder/tmp STUB_LOG=$folder/log UNFURL_BINARIES=$folder/bin RESULTS=$folder/results.md PRESETS=palm-tiny
export UNFURL_PYTHON=$folder/bin/python PATH=$folder/bin:$PATH

cat >"$folder/bin/stub" <<'STUB'
#!/usr/bin/env bash
name=$(basename "$0")
case "$name $*" in
  *--device)
    if [[ -n ${STUB_NO_GPU:-} ]]; then echo "error: no GPU can be used: no driver; nothing was run" >&2; exit 2; fi
    echo "NVIDIA H200"
    exit 0 ;;
  *--version) echo "unfurl 0.1.0"; exit 0 ;;
  kernels_tests*--gtest_list_tests) printf 'RmsNorm.\n  Gradient\nPtxConformance.\n  Shuffles\n'; exit 0 ;;
  core_tests*--gtest_list_tests) printf 'Tensor.\n  Views\nTyped/0.  # TypeParam = float\n  A\n'; exit 0 ;;
  *_tests*--gtest_list_tests) exit 0 ;;
  python*"import torch"*)
    [[ -z ${STUB_NO_TORCH:-} ]] || exit 1
    echo "2.11.0 cuDNN 91900"
    exit 0 ;;
  python*" -c "*) exit 0 ;;
  python*" forms") echo "eager compiled"; exit 0 ;;
esac
echo "$name $*" >>"$STUB_LOG"
case "$name $*" in
  *compute-sanitizer*) [[ -z ${STUB_REFUSED:-} ]] || { echo "========= Error: Device not supported"; exit 1; } ;;&
  *compute-sanitizer*initcheck*) [[ -z ${STUB_SLOW:-} ]] || exit 124 ;;
  *compute-sanitizer*) echo "[  PASSED  ] 1 test." ;;
  *_tests*)
    if [[ -n ${STUB_FAIL:-} && "$*" == *"$STUB_FAIL"* ]]; then echo "expected 1, got 2"; exit 1; fi
    if [[ -n ${STUB_SKIP:-} ]]; then printf '[  SKIPPED ] PtxConformance.%s (0 ms)\n[  SKIPPED ] 1 test, listed below:\n' "$STUB_SKIP"; fi
    echo "[  PASSED  ] 3 tests." ;;
  kernels_gpu_benchmark*)
    echo "first case"
    sleep "${STUB_SLEEP:-0}"
    echo "second case" ;;
  train_gpu_benchmark*export*)
    mkdir -p "$2"
    [[ -z ${STUB_KILLED:-} ]] || kill -KILL $$ ;;
  *eager) echo "eager: 900.0 tokens/s" ;;
  decode_gpu_benchmark*)
    echo "a line"
    [[ -z ${STUB_KILLED:-} ]] || kill -KILL $$
    [[ -z ${STUB_HANG:-} ]] || exit 124 ;;  # what `timeout` says
  *wrong) echo "wrong: losses DIFFER"; echo "wrong: 9000.0 tokens/s"; exit 1 ;;
  *compiled) echo "compiled: 1000.0 tokens/s" ;;
  train_gpu_benchmark*speed*) echo "palm-tiny: 1100.0 tokens/s" ;;
  train_gpu_benchmark*losses*) echo 1.5 ;;
  *) echo "a line" ;;
esac
STUB
chmod +x "$folder/bin/stub"
for name in kernels_tests core_tests train_tests kernels_gpu_benchmark train_gpu_benchmark decode_gpu_benchmark unfurl \
  python compute-sanitizer; do
  ln -s stub "$folder/bin/$name"
done

fail() {
  echo "FAILED: $*" >&2
  cat "$folder/out" "$RESULTS" >&2 || true
  exit 1
}
# check CODE ARGUMENTS...: runs it, and its exit code must be CODE
check() {
  local expected=$1 code=0
  shift
  : >"$STUB_LOG"
  scripts/gpu_check.sh "$@" >"$folder/out" 2>&1 || code=$?
  ((code == expected)) || fail "exit code $code, not $expected, of gpu_check.sh $*"
}
ran() { grep --fixed-strings --count -- "$1" "$STUB_LOG" || true; }
says() { grep --quiet --fixed-strings -- "$1" "$folder/out" || fail "it does not say: $1"; }
page_has() { grep --quiet --fixed-strings -- "$1" "$RESULTS" || fail "the page has no: $1"; }

# Without a GPU it says so in a line, runs nothing and writes nothing.
STUB_NO_GPU=1 check 2
says "gpu_check: no GPU can be used: no driver; "
[[ $(wc -l <"$folder/out") == 1 ]] || fail "it says more than a line without a GPU"
[[ ! -s $STUB_LOG && ! -e $RESULTS ]] || fail "it ran something without a GPU"
check 2 everything
says "unknown argument 'everything'"

# Correctness: the wrappers first, each suite once, then compute-sanitizer.
check 0 correctness
[[ $(head -1 "$STUB_LOG") == *PtxConformance* ]] || fail "the wrappers are not first"
[[ $(ran "core_tests --gtest_filter=Typed/0.*") == 1 ]] || fail "a typed suite is not run"
[[ $(ran "--tool racecheck") == 2 ]] || fail "racecheck does not run on both suites"
page_has "# NVIDIA H200: unfurl"
page_has "- [x] correctness core_tests Tensor: 3 tests passed, "
check 0 correctness
[[ ! -s $STUB_LOG ]] || fail "finished lines are run again"
says "all is well"

# A short test that is not short under compute-sanitizer is left out.
rm "$RESULTS"
STUB_SLOW=1 check 0 correctness
page_has "- [x] correctness initcheck RmsNorm: left out, as it takes longer than 40 s"

# A machine on which compute-sanitizer does not run.
rm "$RESULTS"
STUB_REFUSED=1 check 0 correctness
page_has "- [x] correctness compute-sanitizer: left out, it refuses this machine's GPU: Error: Device not supported"
[[ $(ran "--tool") == 1 ]] || fail "compute-sanitizer is tried again and again"
STUB_REFUSED=1 check 0 correctness
[[ ! -s $STUB_LOG ]] || fail "compute-sanitizer is tried again"

# A wrapper's test that is skipped proves nothing, but where it is of Hopper's instructions, for another GPU.
rm "$RESULTS"
STUB_SKIP=Shuffles check 1 correctness
page_has "- [!] correctness wrappers: FAILED, tests were skipped"
rm "$RESULTS"
STUB_SKIP=HopperTiles check 0 correctness
# What failed is told again, and run again only if asked for.
rm "$RESULTS"
STUB_FAIL=Tensor check 1 correctness
page_has "    expected 1, got 2"
check 1 correctness
says "1 FAILED: correctness core_tests Tensor"
[[ ! -s $STUB_LOG ]] || fail "what failed is run again unasked"
check 0 correctness --retry
[[ $(wc -l <"$STUB_LOG") == 1 ]] || fail "more than what failed is run again"

# A kill in the middle of a table: what was written goes, and is made again; the rest stays.
for signal in TERM KILL KILL-IT-ALONE; do
  rm -f "$RESULTS"
  check 0 decode
  before=$(cat "$RESULTS")
  : >"$STUB_LOG"
  STUB_SLEEP=30 setsid scripts/gpu_check.sh kernels decode >"$folder/out" 2>&1 &
  running=$!
  for ((i = 0; i < 200; ++i)); do
    if grep --quiet "first case" "$RESULTS"; then break; fi
    sleep 0.1
  done
  page_has "    first case"  # flushed at once
  {  # the shell's own word on who was killed is of no use
    if [[ $signal == KILL ]]; then
      # The program that it runs is in a group of its own; as on a machine that goes, all are killed.
      pkill -KILL --session "$running"
    elif [[ $signal == KILL-IT-ALONE ]]; then
      kill -KILL "$running"
    else
      kill -TERM "$running"
    fi
    wait "$running" || true
  } 2>/dev/null
  check 0 kernels decode
  [[ $signal != KILL-IT-ALONE ]] || says "ending what a killed one left running"
  [[ ! -e $RESULTS.running ]] || fail "a file is left"
  [[ $(grep --count "first case" "$RESULTS") == 1 ]] || fail "after a SIG$signal the table is there twice, or not at all"
  [[ $(ran "decode_gpu_benchmark") == 0 ]] || fail "after a SIG$signal finished lines are run again"
  [[ $(cat "$RESULTS") == "$before"* ]] || fail "after a SIG$signal finished lines are gone"
done

# What takes longer than it may is told as such, and the next goes on.
rm "$RESULTS"
STUB_HANG=1 check 1 decode
page_has "- [!] decode palm-tiny: FAILED, not done after 180 s"
page_has "- [x] decode palm-tiny PyTorch: "

# What the kernel kills for memory was not too slow, nor is it run for ever.
rm "$RESULTS"
STUB_KILLED=1 PART_SECONDS=100 check 1 decode
page_has "- [!] decode palm-tiny: FAILED, killed (SIGKILL"
STUB_KILLED=1 check 1 training
page_has "- [!] training palm-tiny export: FAILED, killed (SIGKILL"

# A part whose time is up leaves the rest for the next call.
rm "$RESULTS"
STUB_SLEEP=30 PART_SECONDS=6 check 3 kernels decode
says "left to run, the first: kernels palm-tiny"
page_has "- [x] decode palm-tiny: "
check 0 kernels decode
[[ $(grep --count "first case" "$RESULTS") == 1 ]] || fail "what was not done in time stays on the page"
page_has "- [x] kernels palm-tiny PyTorch: "

# Training: the fastest of PyTorch's forms, three rounds in alternation, medians.
check 0 training
[[ $(ran "train_gpu_benchmark speed") == 4 && $(ran " compiled") == 4 && $(ran " eager") == 1 ]] || fail "wrong rounds"
page_has "- [x] training palm-tiny in all: 1100 tokens/s, PyTorch (compiled) 1000, ratio 1.100"
check 0 training
[[ ! -s $STUB_LOG ]] || fail "finished rounds are run again"
[[ $(grep --line-number "" "$RESULTS" | grep "### training" | head -1) == *"### training palm-tiny" ]] || fail "ours is not first"
# A form whose losses are others is no peer, however fast.
rm "$RESULTS"
FORMS="wrong eager" check 1 training
page_has "- [!] training palm-tiny PyTorch wrong: FAILED, exit code 1"
page_has "PyTorch (eager) 900, ratio 1.222"

# Without PyTorch only our own lines; other binaries are another build, and begin anew.
rm "$RESULTS"
STUB_NO_TORCH=1 check 0 kernels training decode
[[ $(ran torch_gpu.py) == 0 ]] || fail "PyTorch is run without PyTorch"
echo "# changed" >>"$folder/bin/stub"
check 0 --list
says "kernels palm-tiny"
[[ ! -s $STUB_LOG ]] || fail "--list runs something"
STUB_NO_TORCH=1 check 0 decode
[[ $(ran decode_gpu_benchmark) == 1 ]] || fail "another build's results count for this one"
echo "gpu_check_test: all is well"
