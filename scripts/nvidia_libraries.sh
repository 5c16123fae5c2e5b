# Sourced: adds to LD_LIBRARY_PATH the folders in which NVIDIA's libraries may lie on a machine that has not made them
# known: of a toolkit, of scripts/nvcc.sh, or of the Python packages that PyTorch comes with.
if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  sed -n '1,/^[^#]/{s/^#\( \|$\)//p}' "$0"
  exit
fi
_add_nvidia_folders() {
  local folder python
  local folders=(/usr/local/cuda/lib64 /usr/local/cuda-*/lib64 /usr/local/nvidia/lib64 /opt/cuda*/lib64 /opt/nvidia/cuda*/lib64)
  # What scripts/nvcc.sh has installed; from the root of the disk, as programs may change their folder.
  for folder in "$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")"/build/nvcc/lib/python3*/site-packages; do
    folders+=("$folder"/nvidia/{cu13,cudnn,nccl}/lib)
  done
  for python in "${UNFURL_PYTHON:-}" python3; do
    if [[ -n $python ]] && command -v "$python" >/dev/null; then
      while IFS= read -r folder; do
        folders+=("$folder"/nvidia/{cu13,cudnn,nccl}/lib)
      done < <("$python" -c 'import sys; print("\n".join(p for p in sys.path if p.endswith("-packages")))' 2>/dev/null)
    fi
  done
  for folder in "${folders[@]}"; do
    if [[ -d $folder && :${LD_LIBRARY_PATH:-}: != *:$folder:* ]]; then
      LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
    fi
  done
  export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}
}
_add_nvidia_folders
unset -f _add_nvidia_folders
