"""What happens when things break, and when callers are slow, broken or hostile: `python -m chaos`."""
