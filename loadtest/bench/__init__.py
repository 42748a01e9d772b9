"""`make bench`: the gateway compared with what a user would pick instead, all in one run."""
