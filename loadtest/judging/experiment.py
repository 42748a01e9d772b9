"""`python -m loadtest.experiments judging`: how often is a good release taken back, and a bad one caught?"""

import argparse
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from command_line import number, whole
from launcher.console import say
from loadtest.facts import machine_busy
from loadtest.judging.releases import GOOD, Release, Trial, deployment, releases
from loadtest.judging.report import write
from loadtest.reporting.folder import Report, new_report
from loadtest.reporting.reserve import add_folder_options, reserved

RELEASES = 50  # good ones, and as many bad ones
LOADS = (0.5, 1.0, 2.0, 3.0)
LANES = 8


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--releases", type=whole(1, 1000), default=RELEASES, help=f"good ones, and as many bad; default: {RELEASES}")
    loads = number(0.1, 10, of="times the capacity")
    add("--loads", type=loads, nargs="+", default=LOADS, help="others’ load; default: 0.5 1 2 3")
    add("--lanes", type=whole(1, 50), default=LANES, help=f"deployments at the same time; default: {LANES}")
    add("--seed", type=whole(), default=15, help="of everything that is by chance; default: 15")
    add("--time-scale", type=number(0.01, 1), default=1.0, metavar="F", help="multiplies every time; default: 1")
    add_folder_options(parser, default="judging")


def run(options: argparse.Namespace) -> int:
    """Judge every release, write the report, and return 0 if the error rates are as they should be."""
    with reserved(options, "judging") as folder, TemporaryDirectory(prefix="sluice-judging-") as scratch:
        report = new_report(folder.name, ["loadtest.experiments", *options.arguments])
        with machine_busy(report):
            trials = Lanes(options, Path(scratch)).run()
        return write(report | about(options), trials, out=options.out)


def about(options: argparse.Namespace) -> Report:
    """Return what the report says of the run."""
    return {"experiment": "judging", "time_scale": options.time_scale, "seed": options.seed, "loads": [*options.loads]}


class Lanes:
    """Deployments next to each other, each of which is one release after the other."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        """Draw the releases."""
        self._options, self._folder, self._lock = options, folder, threading.Lock()
        self._left = releases(options.releases, options.releases, options.loads, options.seed)
        self._count, self._over = len(self._left), threading.Event()
        self.trials: list[Trial] = []

    def run(self) -> list[Trial]:
        """Judge all of them."""
        with ThreadPoolExecutor(self._options.lanes) as pool:
            lanes = [pool.submit(self._lane, number_) for number_ in range(self._options.lanes)]
            try:
                for lane in lanes:
                    lane.result()
            finally:
                self._over.set()
        return self.trials

    def _lane(self, number_: int) -> None:
        options = self._options
        folder = self._folder / f"lane-{number_}"
        with deployment(folder, scale=options.time_scale, seed=options.seed + number_) as lane:
            for load in options.loads:  # so that there is a live release, which was measured under each load
                self._tell(f"lane {number_}: first releases", lane.judge(Release(GOOD, load)))
            for release in self._releases():
                trial = lane.judge(release)
                with self._lock:
                    self.trials.append(trial)
                    self._tell(f"{len(self.trials)} of {self._count}", trial)

    def _releases(self) -> Iterator[Release]:
        while not self._over.is_set():
            with self._lock:
                if not self._left:
                    return
                release = self._left.pop()
            yield release

    def _tell(self, where: str, trial: Trial) -> None:
        release = trial.release
        say(f"{where}: {release.kind} under {release.load:g} ×: {trial.ending} after {trial.seconds:.0f} s")
