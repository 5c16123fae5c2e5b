#!/usr/bin/env bash
# Every script answers --help and -h with its usage and starts nothing; an option that none has is one line and exit code 2.
set -uo pipefail
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for name in cmake apt-get sudo ninja nvcc scontrol srun clang-format; do  # what a script that goes to work would call
  printf '#!/bin/sh\necho "%s $*" >>"%s/started"\nexit 1\n' "$name" "$folder" >"$folder/$name"
  chmod +x "$folder/$name"
done
export PATH=$folder:$PATH
failed=0
fail() {
  echo "FAILED: $*; it said:" >&2
  cat "$folder/out" "$folder/error" >&2
  failed=1
}

run() {  # SCRIPT ARGUMENT
  local by=bash
  if [[ $1 == *.py ]]; then by=python3; fi
  "$by" "$1" "$2" >"$folder/out" 2>"$folder/error" </dev/null
}
for script in scripts/*.sh scripts/*.sbatch scripts/*.py benchmarks/peers/torch_gpu.py; do
  for option in -h --help; do
    run "$script" "$option" || fail "$script $option: exit code $?"
    # Of a sourced one there is nothing to call.
    if [[ $script != scripts/nvidia_libraries.sh ]]; then
      grep --quiet --ignore-case 'usage: ' "$folder/out" || fail "$script $option does not tell its usage"
    fi
    [[ -s $folder/out && ! -s $folder/error ]] || fail "$script $option"
    if grep --quiet 'pipefail' "$folder/out"; then fail "$script $option tells its code"; fi
  done
  case $script in
    scripts/quickstart.sh | scripts/test.sh) continue ;;  # whose options are those of what they run
    scripts/nvidia_libraries.sh) continue ;;
  esac
  run "$script" --no-such-option
  code=$?
  ((code == 2)) || fail "$script --no-such-option: exit code $code"
  [[ $(wc -l <"$folder/error") == 1 && ! -s $folder/out ]] || fail "$script --no-such-option is not one line"
done
[[ ! -e $folder/started ]] || fail "something was started: $(cat "$folder/started")"
((failed == 0)) || exit 1
echo "help_test: all is well"
