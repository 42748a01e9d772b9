"""How gunicorn serves the gateway: `gunicorn -c service/gunicorn.conf.py service.wsgi:app`."""

import ctypes
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from service.addresses import with_port
from service.keys import Keys
from service.settings import SettingError, Settings

try:
    settings = Settings.from_environ(os.environ)
    if settings.api_keys_file:
        Keys(Path(settings.api_keys_file), settings.names)
except SettingError as error:
    sys.exit(f"sluice: {error}")

# Each connection may need another one to Ollama.
wanted, (soft, hard) = 2 * settings.max_connections + 256, resource.getrlimit(resource.RLIMIT_NOFILE)
if soft < wanted:
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
if hard < wanted:
    sys.exit(
        f"sluice: MAX_CONNECTIONS={settings.max_connections} needs {wanted} open files, and {hard} are allowed: "
        "lower it, or raise the limit (ulimit -Hn)"
    )

# glibc would keep what threads have freed, in up to eight arenas a CPU, and blocks of megabytes once it has seen some:
# requests of 8 MiB that are refused would stay in memory. A lower threshold costs such a request 20 ms. man 3 mallopt
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
with suppress(AttributeError):  # another C library has no mallopt()
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 4 << 20)
    ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)

bind = with_port(settings.host, settings.port)
workers = 1  # admission counts slots in one process's memory
worker_class = "service.worker.Worker"
logger_class = "service.worker.Logger"
threads = settings.worker_threads
worker_connections = threads + settings.max_connections + 1  # service/worker.py closes old ones before that
keepalive = settings.keepalive
# No proxy in front may set another path or scheme: service/intake.py relies on it.
forwarder_headers = ""
forwarded_allow_ips = ""
backlog = 2048
timeout = 30  # seconds without a heartbeat of the worker's main thread, which runs no requests
# A drain may take PRESTOP, a full wait in the queue and a full generation.
graceful_timeout = int(settings.prestop + settings.queue_timeout + settings.answer_timeout) + 5
control_socket_disable = True
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a heartbeat must not wait for a disk
proc_name = "sluice"


def pre_request(worker: Any, req: Any) -> None:
    """While draining, close each connection after its answer, so that no client sends another request on it."""
    if worker.models.draining.is_set():
        req.force_close()


logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "service.request_log.JsonFormatter"}},
    "handlers": {
        "stdout": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stdout",
            "formatter": "json",
        }
    },
    "root": {"level": "INFO", "handlers": ["stdout"]},
    "loggers": {"gunicorn.error": {"level": "INFO", "handlers": ["stdout"], "propagate": False}},
}
