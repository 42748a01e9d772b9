"""What the workflows call: moves releases on the manifests branch, forward and back, and checks what is live."""
