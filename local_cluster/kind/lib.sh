# Sourced by the scripts in this folder, and by what runs commands on the cluster: names, tools, kubectl's configuration.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=sluice
node=$name-control-plane
state=${XDG_CACHE_HOME:-$HOME/.cache}/sluice/kind
mkdir -p "$state"
export KUBECONFIG=$state/kubeconfig PATH=$here/bin:$PATH
registry=localhost:5001
# This machine, as pods see it: the gateway of the network that kind's node is in.
node_ip=$(docker network inspect kind --format '{{range .IPAM.Config}}{{println .Gateway}}{{end}}' 2>/dev/null |
  grep --max-count=1 --fixed-strings . || true)
