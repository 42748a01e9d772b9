"""`make demo`: the whole loop on a local cluster, from an image to a release that is taken back, with a commentary."""
