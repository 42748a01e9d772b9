"""The whole of `make serve` on this machine, in a mount namespace of its own whose disks and names can be broken."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from chaos.systems import await_condition, figures, lives
from launcher.console import Problem
from launcher.small_model import SMALL_MODEL
from testbed import ROOT
from testbed.fetching import status
from testbed.ports import free_ports
from testbed.programs import scratch
from testbed.real_ollama import models_dir
from testbed.stand_in import MODEL

NAME = "engine.internal"  # which the hosts file of the namespace has; Ollama answers to names of this kind
# Small disks where the launcher writes, and a hosts file that can be changed, seen by these processes alone.
NAMESPACE = """set -e
mount --make-rprivate /
mount -t tmpfs -o size=4m tmpfs "$1"
mount -t tmpfs -o size=4m tmpfs /dev/shm
mount --bind "$2" /etc/hosts
mount --bind "$3" /etc/resolv.conf
shift 3
exec "$@"
"""
ENGINE = f"""#!/bin/sh
cd '{ROOT}' && exec '{sys.executable}' -m testbed.stand_in "$@"
"""


class Launched:
    """A launcher that is started again when it ends, as Docker or Kubernetes would."""

    def __init__(self, folder: Path, *, real: bool, **settings: str) -> None:
        self.port, self.private_port, self._engine_port = free_ports(3)
        self.home, self.hosts, self.log = folder / "home", folder / "hosts", folder / "launcher.log"
        self.home.mkdir(exist_ok=True)
        self.hosts.write_text(f"127.0.0.1 localhost {NAME}\n")
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        namespace = [str(path) for path in (self.home, self.hosts, folder / "resolv.conf")]
        launcher = [sys.executable, "-m", "launcher"]
        self._command = ["unshare", "--mount", "sh", "-c", NAMESPACE, "sh", *namespace, *launcher]
        self._environ = self._variables(folder, real) | settings
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper")
        self.restarts = 0

    def _variables(self, folder: Path, real: bool) -> dict[str, str]:
        variables = {
            "PORT": str(self.port),
            "PRIVATE_PORT": str(self.private_port),
            "OLLAMA_HOST": f"http://{NAME}:{self._engine_port}",
            "SLUICE_CACHE": str(self.home),
            "QUEUE_TIMEOUT": "5",
            "GENERATION_TIMEOUT": "10",
        }
        path = os.environ["PATH"]
        if real:
            return os.environ | variables | {"OLLAMA_MODELS": str(models_dir()), "MODEL": SMALL_MODEL, "PATH": path}
        program = folder / "bin/ollama"
        program.parent.mkdir(exist_ok=True)
        program.write_text(ENGINE)
        program.chmod(0o755)
        return os.environ | variables | figures() | {"MODEL": MODEL, "PATH": f"{program.parent}:{path}"}

    @property
    def url(self) -> str:
        """Return the public address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the launcher, keep it running, and return once it is ready. Raises Problem."""
        self._spawn()
        self._keeper.start()
        if not await_condition(self.ready, 120):
            raise Problem(f"the launcher isn't ready: {self.log.read_text()[-500:]}")

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, cwd=ROOT, env=self._environ, stdout=log, stderr=log)

    def _keep(self) -> None:
        while not self._over.wait(0.1):
            if self.process.poll() is not None:
                self.restarts += 1
                self._spawn()

    def ready(self) -> bool:
        """Say whether /readyz answers 200."""
        return status(f"http://127.0.0.1:{self.private_port}/readyz") == 200

    def stop(self) -> None:
        """End the launcher and all that it started."""
        self._over.set()
        self._keeper.join()
        family = self.family()
        self.process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.kill()

    def family(self) -> list[psutil.Process]:
        """Return its processes."""
        with suppress(psutil.NoSuchProcess):
            own = psutil.Process(self.process.pid)
            return [own, *own.children(recursive=True)]
        return []

    def find(self, *words: str) -> list[psutil.Process]:
        """Return the processes that have these words in their command line, parents before children."""
        found = []
        for each in self.family():
            with suppress(psutil.NoSuchProcess):
                if lives(each) and all(word in " ".join(each.cmdline()) for word in words):
                    found.append(each)
        return found

    def kill(self, *words: str, last: bool = False) -> None:
        """Kill the first, or last, process with these words. Raises Problem where there is none."""
        self._need(*words)[-1 if last else 0].kill()

    def halt(self, *words: str) -> None:
        """Have the first process with these words stand still. Raises Problem where there is none."""
        self._need(*words)[0].suspend()

    def _need(self, *words: str) -> list[psutil.Process]:
        found = self.find(*words)
        if not found:
            raise Problem(f"there is no process {' '.join(words)}")
        return found

    def disk(self, folder: Path) -> Path:
        """Return where this process reaches a folder of the namespace."""
        return Path(f"/proc/{self.process.pid}/root{folder}")


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Have no byte free on a small disk until the block ends."""
    if shutil.disk_usage(disk).total > 64 << 20:
        raise Problem(f"{disk} is not a small disk of the test's own")
    filler = disk / "filler"
    try:
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        yield
    finally:
        filler.unlink(missing_ok=True)


@contextmanager
def launched(*, real: bool = False, **settings: str) -> Iterator[Launched]:
    """Run the launcher until the block ends. Raises Problem where this machine has no namespaces for us."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        raise Problem("it needs root, for a mount namespace of its own")
    folder = scratch() / f"launched-{time.monotonic_ns()}"
    folder.mkdir()
    running = Launched(folder, real=real, **settings)
    try:
        running.start()
        yield running
    finally:
        running.stop()
