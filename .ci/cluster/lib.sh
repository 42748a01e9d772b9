# Sourced: the shared cluster's own names and tools.
shared=${SHARED_CLUSTER:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../../../shared/cluster" && pwd)}
. "$shared/lib.sh"
