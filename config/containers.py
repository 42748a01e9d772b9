"""What the containers next to Ollama take: measured, and the same in every stage. Sizes in MiB."""

# What the gateway's containers may use: `make bench` has it at 64 MiB and far below one CPU at 50 requests/s.
GATEWAY_CPUS = 0.5
GATEWAY_MIB = 256
# Measured: its two processes take 70 MiB before the first request, and 128 requests under way 21 MiB when each has
# 50 kB, 296 MiB when each has 1 MB.
GATEWAY_BASE_MIB = 128
COPIES = 3  # of a request that is read and checked: as it came, parsed, and as it goes on
KEPT_COPIES = 2.5  # of one that is under way: as it went out, and what it was made of
THREAD_MIB = 0.25  # of a request under way: its thread and its connections
# HAProxy without requests (28 MiB with 256 streams that wait), and one of its streams at its largest: two buffers, one
# more to send it again, and what describes it.
PROXY_MIB, PROXY_BASE_MIB = 256, 64
BUFFER_BYTES = 32_768
STREAM_MIB = (3 * BUFFER_BYTES + 8192) / 2**20
