#!/usr/bin/env bash
# Installs what unfurl is built from: Debian packages and nothing else. Safe to run again: what is there is left alone.
# usage: scripts/setup.sh [further packages]        (as root, or as a user who may use sudo)
case ${1:-} in
  -h | --help) sed -n '2,/^[^#]/{s/^#\( \|$\)//p}' "$0"; exit ;;
  -*)
    echo "setup: unknown option '$1'; see scripts/setup.sh --help" >&2
    exit 2 ;;
esac
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config
  libblis-serial-dev libhwy-dev libsentencepiece-dev
  libyaml-cpp-dev nlohmann-json3-dev libcli11-dev libfmt-dev libspdlog-dev libxxhash-dev liblzma-dev libcpp-httplib-dev
  libgtest-dev libbenchmark-dev
  libopenmpi-dev openmpi-bin
  "$@"
)

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "setup: this machine has no apt; install the equivalents of these Debian 12 packages: ${packages[*]}" >&2
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $status == installed ]] || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
  echo "setup: all ${#packages[@]} packages are installed"
  exit 0
fi

as_root=()
if ((EUID != 0)); then
  if ! command -v sudo >/dev/null; then
    echo "setup: not root, and there is no sudo; as root, run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "setup: installing ${missing[*]}"
"${as_root[@]}" apt-get update --quiet=2
if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}" </dev/null >/dev/null; then
  echo "setup: apt-get could not install ${missing[*]}; its messages are above" >&2
  exit 1
fi
echo "setup: done"
