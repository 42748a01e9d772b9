"""The way to a good setting: one knob after the other, and a race at each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from launcher.console import Problem
from launcher.ollama_calls import OllamaError
from tuning.measured import Measured, together
from tuning.objective import Slo
from tuning.setting import Setting

# Threads and slots move the figures most, so they come first; the full grid would be hundreds of settings of seconds
# each. What one of the others gives hardly depends on the rest, except on how many slots share the CPUs.
ORDER = ("threads", "slots", "batch", "flash", "kv", "speculation")
SECOND_LOOKS = 2  # of a race's best, compared with the best so far
DISTURBED = 0.1  # of the CPUs, used by something else during a look
MOST_SETS = 4  # of knobs that are changed together
REPEATS = 8  # looks that are made again for that, in all

Look = Callable[[Setting], Measured]
Choices = Mapping[str, Sequence[Any]]


@dataclass
class Trial:
    """A setting that was tried, what the looks at it found, and what became of it, in words."""

    setting: Setting
    looks: list[Measured] = field(default_factory=list)
    fate: str = ""

    @property
    def found(self) -> Measured:
        """Return all looks as one; there is at least one."""
        return together(self.looks)


class Search:
    """Coordinate descent from a first setting; `trials` has all that was tried, in order."""

    def __init__(self, look: Look, slo: Slo, choices: Choices, say: Callable[[str], None]) -> None:
        self._look, self._slo, self._choices, self._say = look, slo, choices, say
        self._repeats = REPEATS
        self.trials: dict[Setting, Trial] = {}

    def run(self, start: Setting) -> Trial:
        """Return the best setting found. Raises Problem when the first one doesn't run."""
        best = self._tried(start)
        if best.fate:
            raise Problem(f"the first setting ({start.text()}) doesn't run: {best.fate}")
        for knob in ORDER:
            best = self._race(knob, best)
        if _differs(best.setting, start, ORDER[2:]):  # what makes a step cheaper may make room for more slots
            best = self._race("slots", best)
        best = self._run_off("two or more knobs together", self._as_good(best), best)
        best.fate = "the choice" if self._slo.met_by(best.found) else "the closest"
        return best

    def _race(self, knob: str, best: Trial) -> Trial:
        """Try a knob's other values, and return the best of them, or the best until then if none is better."""
        return self._run_off(knob, [best.setting.with_(knob, value) for value in self._choices[knob]], best)

    def _as_good(self, best: Trial) -> list[Setting]:
        """Return what has two, or all, of the changes that alone were as good as the best: together they may win."""
        near: dict[str, Trial] = {}
        for trial in self.trials.values():
            changed = [knob for knob in ORDER if getattr(trial.setting, knob) != getattr(best.setting, knob)]
            if len(changed) != 1 or not trial.looks or self._slo.better(best.found, trial.found):
                continue
            before = near.setdefault(changed[0], trial)
            near[changed[0]] = max(before, trial, key=lambda each: self._slo.rank(each.found))
        sets = [*combinations(near, 2), *([tuple(near)] if len(near) > 2 else [])]
        return [_changed(best.setting, {knob: near[knob].setting for knob in knobs}) for knobs in sets[:MOST_SETS]]

    def _run_off(self, what: str, settings: Sequence[Setting], best: Trial) -> Trial:
        """Try settings, and return the best of them, or the best until then if none is better."""
        fresh = [each for each in settings if each.can_be and each not in self.trials]
        running = [trial for trial in map(self._tried, fresh) if not trial.fate]
        running = [trial for trial in running if not self._dropped(what, trial, best)]
        running.sort(key=lambda trial: self._slo.rank(trial.found), reverse=True)
        for trial in running[SECOND_LOOKS:]:
            trial.fate = f"dropped after the first look at {what}: two others were faster"
        running = running[:SECOND_LOOKS]
        for trial in [best, *running] if running else []:  # one after the other: a machine's speed drifts
            self._look_at(trial)
        return self._winner(best, [trial for trial in running if not trial.fate])

    def _winner(self, best: Trial, running: Sequence[Trial]) -> Trial:
        for trial in running:
            if self._won(trial, best):
                best.fate = f"left for {trial.setting.different_from(best.setting)}"
                best = trial
            else:
                trial.fate = f"not better than {best.setting.different_from(trial.setting)} by more than noise"
        best.fate = ""
        return best

    def _won(self, trial: Trial, best: Trial) -> bool:
        """Say whether a setting is better in all, and in the last looks too, which came one after the other."""
        last = self._slo.rank(trial.looks[-1]) > self._slo.rank(best.looks[-1])
        return last and self._slo.better(trial.found, best.found)

    def _dropped(self, what: str, trial: Trial, best: Trial) -> bool:
        if self._slo.hopeless(trial.found, best.found):
            trial.fate = f"dropped after the first look at {what}: {self._behind(trial.found, best.found)}"
        return bool(trial.fate)

    def _behind(self, found: Measured, best: Measured) -> str:
        if self._slo.met_by(found):
            return f"{found.rate:.1f} tokens/s where {best.rate:.1f} are had"
        return "farther from the SLO"

    def _tried(self, setting: Setting) -> Trial:
        trial = self.trials[setting] = Trial(setting)
        self._look_at(trial)
        return trial

    def _look_at(self, trial: Trial) -> None:
        try:
            trial.looks.append(self._undisturbed(trial.setting))
        except (OllamaError, Problem) as problem:
            trial.fate = f"doesn't run: {problem}"
            self._say(f"{trial.setting.text()}: {trial.fate}")
            return
        last = trial.looks[-1]
        figures = f"{last.rate:.1f} tokens/s, slowest caller {last.slowest:.1f}"
        self._say(f"{trial.setting.text()}: {figures}, p95 first token {last.p95_first_token:.2f} s")

    def _undisturbed(self, setting: Setting) -> Measured:
        found = self._look(setting)
        while found.others > DISTURBED and self._repeats:
            self._repeats -= 1
            self._say(f"{setting.text()}: looking again, since something else used {found.others:.0%} of the CPUs")
            found = self._look(setting)
        return found


def _changed(setting: Setting, knobs: Mapping[str, Setting]) -> Setting:
    for knob, other in knobs.items():
        setting = setting.with_(knob, getattr(other, knob))
    return setting


def _differs(one: Setting, other: Setting, knobs: Sequence[str]) -> bool:
    return any(getattr(one, knob) != getattr(other, knob) for knob in knobs)
