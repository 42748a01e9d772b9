"""How many replicas an arrival rate needs: the gateway's own admission, run on a virtual clock."""
