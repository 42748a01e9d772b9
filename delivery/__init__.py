"""Moves releases forward and back on the manifests branch, and checks what is live. The workflows call it."""
