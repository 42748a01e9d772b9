"""`make bench`: the gateway beside what a user would pick instead, all in one run."""
