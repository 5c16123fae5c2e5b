#!/usr/bin/env bash
# Two hosts on this machine, network namespaces with a cable between them, train one model over TCP. The bits must be
# those of a run on one host; when the cable is cut, each side must say so within the time-out and end; when it is whole
# again, the same command goes on to the same bits. Without the right to make namespaces it says so and exits with 77.
# usage: tests/scripts/two_hosts.sh UNFURL
set -euo pipefail
unfurl=$(realpath "$1")
timeout=5

skip() {
  echo "two_hosts: skipped: $1"
  exit 77
}
for program in ip mpirun; do command -v $program >/dev/null || skip "there is no $program"; done
if [[ -z ${TWO_HOSTS_FOLDER:-} ]]; then
  ((EUID == 0)) || skip "not root"
  TWO_HOSTS_FOLDER=$(mktemp -d)
  export TWO_HOSTS_FOLDER
  trap 'rm -rf --one-file-system "$TWO_HOSTS_FOLDER"' EXIT
  unshare --mount true 2>/dev/null || skip "no mount namespaces"
  unshare --mount -- "$0" "$@"  # the names of network namespaces are mounts: nobody else sees ours
  exit
fi
folder=$TWO_HOSTS_FOLDER
mkdir -p /run/netns
mount -t tmpfs none /run/netns || skip "cannot mount"
ip netns add host_a 2>/dev/null && ip netns add host_b || skip "no network namespaces"
cleanup() {
  for host in host_a host_b; do
    ip netns pids $host 2>/dev/null | xargs --no-run-if-empty kill -KILL 2>/dev/null || true
    ip netns del $host 2>/dev/null || true
  done
}
trap cleanup EXIT
ip -n host_a link add cable type veth peer name cable netns host_b || skip "no virtual cables"
for host in a b; do
  ip -n host_$host addr add 10.77.0.$([[ $host == a ]] && echo 1 || echo 2)/24 dev cable
  ip -n host_$host link set cable up
  ip -n host_$host link set lo up
done

# What mpirun calls to start its daemon on the other host, in place of ssh.
cat >"$folder/agent" <<'AGENT'
#!/usr/bin/env bash
while [[ $1 == -* ]]; do shift; done
shift  # the host's address
exec ip netns exec host_b bash -c "$*"
AGENT
chmod +x "$folder/agent"
"$unfurl" corpus synth --out "$folder" --pairs 300 --seed 5 --heldout-pairs 5 >/dev/null
"$unfurl" tokenizer train "$folder/pairs.jsonl" --out "$folder/tokenizer.model" --vocab-size 420 >"$folder/log" 2>&1
cat >"$folder/recipe.yaml" <<RECIPE
seed: 3
model: {width: 96, layers: 2, heads: 2, head_dim: 48, ff_width: 128, context: 96, dropout: 0.1}
tokenizer: {path: $folder/tokenizer.model}
data: {sources: [{path: $folder/pairs.jsonl}]}
batch: {slots: 4, tokens: 192, documents: 16}
optimizer: {learning_rate: 1.0e-3}
train: {steps: 200, log_every: 1, validate_every: 0, checkpoint_every: 5}
RECIPE
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 UNFURL_THREADS=1
two_hosts() {
  ip netns exec host_a mpirun --mca plm_rsh_agent "$folder/agent" --mca btl tcp,self --mca btl_tcp_if_include cable \
    --mca oob_tcp_if_include cable --output-filename "$folder/said" --host 10.77.0.1:1,10.77.0.2:1 -n 2 -x UNFURL_THREADS --mca orte_keep_fqdn_hostnames 1 \
    "$unfurl" train "$folder/recipe.yaml" --timeout $timeout --set output="$folder/$1"
}
die() {
  echo "two_hosts: $1:" >&2
  cat "$folder/log" >&2
  exit 1
}
losses() { grep '"kind": *"step"' "$folder/$1/metrics.jsonl" | sed 's/.*"loss": *\([^,}]*\).*/\1/'; }
"$unfurl" train "$folder/recipe.yaml" --set output="$folder/one" >"$folder/log" 2>&1 || die "the run on one host failed"

two_hosts two >"$folder/log" 2>&1 &
running=$!
for ((i = 0; i < 300; ++i)); do
  compgen -G "$folder/two/step-*/state.json" >/dev/null && break
  kill -0 $running 2>/dev/null || break
  sleep 0.1
done
compgen -G "$folder/two/step-*/state.json" >/dev/null || die "two hosts do not train"
ip -n host_a link set cable down
cut=$SECONDS
ranks() { pgrep -f "^$unfurl train $folder/recipe.yaml" || true; }
while [[ -n $(ranks) ]] && ((SECONDS - cut < 6 * timeout)); do sleep 0.2; done
took=$((SECONDS - cut))
[[ -z $(ranks) ]] || die "a rank still runs $took s after the cable was cut"
# Open MPI's own mpirun waits for its daemon behind the cut cable.
{
  for host in host_a host_b; do ip netns pids $host | xargs --no-run-if-empty kill -KILL; done
  wait $running
} 2>/dev/null || true
for rank in 0 1; do
  said=$(grep --recursive --no-filename '^error: ' "$folder/said/1/rank.$rank" || true)
  [[ $said == *"nothing has come from rank $((1 - rank)) for $timeout seconds"* ]] ||
    die "no word of rank $rank on the cut cable ($said)"
  echo "two_hosts: rank $rank: $said"
done
ip -n host_a link set cable up
two_hosts two >"$folder/log" 2>&1 || die "the run does not go on"
grep --quiet "goes on from" "$folder/log" || die "the run began anew"
cmp <(losses one) <(losses two) || die "other numbers"
cmp "$folder"/one/step-000200/model.safetensors "$folder"/two/step-000200/model.safetensors || die "other weights"
echo "two_hosts: the cut was noticed in $took s (time-out $timeout s); the run went on and ended in the bits of one host"
