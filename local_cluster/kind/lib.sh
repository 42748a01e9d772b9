# Sourced by the scripts beside it, and by what runs commands on the cluster: names, and kubectl's configuration.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=sluice
state=${XDG_CACHE_HOME:-$HOME/.cache}/sluice/kind
mkdir -p "$state"
export KUBECONFIG=$state/kubeconfig
registry=localhost:5001
# This machine, as pods see it: the gateway of the network that kind's nodes are in.
node_ip=$(docker network inspect kind --format '{{range .IPAM.Config}}{{println .Gateway}}{{end}}' 2>/dev/null |
  grep --max-count=1 --fixed-strings . || true)
