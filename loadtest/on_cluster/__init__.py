"""The systems that experiments put on the local cluster, and the stage and images they share."""
