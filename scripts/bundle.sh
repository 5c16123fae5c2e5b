#!/usr/bin/env bash
# Builds all programs for Hopper GPUs (sm_90a) and packs them, with all they need but glibc and NVIDIA's libraries, into an
# archive for a machine without compilers and registries; there: tar xzf ARCHIVE && unfurl-*/scripts/gpu_check.sh.
# usage: scripts/bundle.sh [ARCHIVE]        default: build/unfurl-sm_90a.tar.gz
#   UNFURL_BUNDLE_BUILD=FOLDER   packs what was built there with the preset `bundle`, and builds nothing
case ${1:-} in
  -h | --help) sed -n '2,/^[^#]/{s/^#\( \|$\)//p}' "$0"; exit ;;
  '' | [!-]*.tar.gz) ;;
  *)
    echo "bundle: '$1' is neither an option nor a name that ends in .tar.gz; see scripts/bundle.sh --help" >&2
    exit 2 ;;
esac
if (($# > 1)); then
  echo "bundle: one ARCHIVE, not $#; see scripts/bundle.sh --help" >&2
  exit 2
fi
set -euo pipefail
archive=${1:+$(realpath --canonicalize-missing "$1")}
cd "$(dirname "$0")/.."
archive=${archive:-$PWD/build/unfurl-sm_90a.tar.gz}
limit=$((64 << 20))  # bytes

build=${UNFURL_BUNDLE_BUILD:-}
programs=(unfurl atelier kernels_tests core_tests train_tests)
programs+=(kernels_gpu_benchmark train_gpu_benchmark decode_gpu_benchmark)
if [[ -z $build ]]; then
  build=build/bundle
  cmake --preset bundle
  cmake --build --preset bundle --target "${programs[@]}"
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
name=$(basename "$archive" .tar.gz)
out=$folder/$name
mkdir -p "$out"/{bin,lib,scripts,benchmarks/peers}
for program in "${programs[@]}"; do
  if [[ ! -x $build/$program ]]; then
    echo "bundle: $build has no $program" >&2
    exit 1
  fi
  strip -o "$out/bin/$program" "$build/$program"
done
# For several ranks; it needs the MPI of the machine, and is looked for where there is one.
if [[ -f $build/libunfurl_mpi.so ]]; then strip -o "$out/bin/libunfurl_mpi.so" "$build/libunfurl_mpi.so"; fi

# Libraries: those of glibc are every Linux's, NVIDIA's are loaded at run time by who needs them, all others come along,
# libstdc++ among them: other C++ libraries come only as shared ones, and a process must not have two of it.
glibc='^(linux-vdso|ld-linux-x86-64|libc|libm|libdl|librt|libpthread|libresolv)\.so'
while read -r library path; do
  if [[ $library =~ $glibc ]]; then continue; fi
  if [[ $library =~ ^lib(cuda|cudart|cublas|cublasLt|cudnn|nccl|nvrtc|nvJitLink)(_[a-z_]*)?\.so || $path != /* ]]; then
    echo "bundle: a program is linked with $library ($path), which must be loaded at run time" >&2
    exit 1
  fi
  cp --dereference "$path" "$out/lib/$library"
done < <(for program in "${programs[@]}"; do ldd "$build/$program"; done |
  sed -n 's/^\t\([^ ]*\) => \(.*\) (0x.*/\1 \2/p; s/^\t\([^ ]*\) => not found/\1 not-found/p' | sort --unique)
needed=$(for file in "$out"/bin/* "$out"/lib/*; do objdump -T "$file"; done | grep -o 'GLIBC_[0-9.]*' | sort --unique --version-sort | tail -1)

cp scripts/gpu_check.sh scripts/nvidia_libraries.sh "$out/scripts"
cp benchmarks/peers/torch_gpu*.py "$out/benchmarks/peers"
cp --recursive recipes "$out"
cp LICENSE "$out"
compiler=$(sed -n 's/^CUDAToolkit_NVCC_EXECUTABLE:[^=]*=//p' "$build/CMakeCache.txt")
compiler=$("${compiler:-nvcc}" --version 2>/dev/null | sed -n 's/.*release.*, V//p') || true
echo "$(git describe --always --dirty 2>/dev/null || echo unknown) (nvcc ${compiler:-unknown})" >"$out/VERSION"
cat >"$out/run" <<'RUN'
#!/usr/bin/env bash
# Runs a program of bin/ with NVIDIA's libraries where a toolkit or Python's packages have them.
# usage: run PROGRAM [ARGUMENTS]        e.g. run unfurl run recipes/quickstart.yaml
set -euo pipefail
here=$(dirname "$(realpath "$0")")
if (($# == 0)) || [[ ! -x $here/bin/$1 ]]; then
  echo "usage: run PROGRAM [ARGUMENTS]; programs: $(cd "$here/bin" && echo *)" >&2
  exit 2
fi
source "$here/scripts/nvidia_libraries.sh"
program=$1
shift
exec "$here/bin/$program" "$@"
RUN
chmod +x "$out/run"
cat >"$out/README" <<README
unfurl $(cat "$out/VERSION") for Hopper GPUs (sm_90a), x86-64 Linux with ${needed/_/ } or newer.
  scripts/gpu_check.sh                        checks and measures everything; see its top for parts
  ./run unfurl run recipes/quickstart.yaml    any program of bin/; this one needs no GPU
cuBLASLt 13 must be on the machine (a CUDA toolkit, or Python's nvidia-cublas); cuDNN and NCCL are used where they are.
README

# What was packed must start with nothing but itself.
for program in "${programs[@]}"; do
  if ! env -i "$out/bin/$program" --help >/dev/null 2>"$folder/error" && grep --quiet 'error while loading' "$folder/error"; then
    echo "bundle: $program does not start: $(cat "$folder/error")" >&2
    exit 1
  fi
  outside=$(env -i ldd "$out/bin/$program" | awk '$2 == "=>" {print $1, $3}' | grep --invert-match --extended-regexp "$glibc" |
    grep --invert-match --fixed-strings "$folder" || true)
  if [[ -n $outside ]]; then
    echo "bundle: $program takes from outside of the bundle: $outside" >&2
    exit 1
  fi
done

mkdir -p "$(dirname "$archive")"
tar --create --directory="$folder" --sort=name --owner=0 --group=0 "$name" | gzip -9 >"$archive.tmp"
size=$(stat --format=%s "$archive.tmp")
if ((size > limit)); then
  rm "$archive.tmp"
  echo "bundle: the archive has $((size >> 20)) MiB, and at most $((limit >> 20)) can be carried" >&2
  exit 1
fi
mv "$archive.tmp" "$archive"
echo "bundle: $archive: $((size >> 10)) KiB, $(du --apparent-size --summarize --block-size=K "$out" | cut -f1) unpacked, needs $needed"
