"""The names of the served models, and which of them a name means: a request's, or that of an API key's entry."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True)
class ModelNames:
    """The served models, the default first, and their aliases: the model of each, by the alias."""

    models: tuple[str, ...]
    aliases: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, models: str, aliases: str = "") -> Self:
        """Return the names in the settings MODEL and ALIASES; raises ValueError with the setting and what is wrong."""
        names = cls(tuple(models.split()))
        if not names.models:
            raise ValueError("MODEL is empty: name a model, such as moondream")
        if "," in models:
            raise ValueError(f"MODEL={models!r} has a comma: separate several models by blanks")
        if twice := _first_twice(names.models):
            raise ValueError(f"MODEL names {twice} twice: name each model once")
        return cls(names.models, dict(names._alias(pair) for pair in _distinct(re.split(r"[\s,]+", aliases))))

    def _alias(self, pair: str) -> tuple[str, str]:
        alias, _, name = pair.partition("=")
        if not alias or not name:
            raise ValueError(f"ALIASES: {pair!r} is not ALIAS=MODEL, such as gpt-4o-mini=moondream")
        if self.meant(alias):
            raise ValueError(f"ALIASES: {alias} is the name of a served model: choose another alias")
        if (model := self.meant(name)) is None:
            raise ValueError(f"ALIASES: {alias} is to mean {name}, which isn't served: MODEL names {self.told()}")
        return alias, model

    def meant(self, name: str) -> str | None:
        """Return the served model that a name or an alias means, by Ollama's rules; None if there is none."""
        wanted = full_name(name)
        named = {full_name(each): each for each in self.models}
        return named.get(wanted) or {full_name(alias): model for alias, model in self.aliases.items()}.get(wanted)

    def told(self, models: Collection[str] | None = None) -> str:
        """Return these models, or all, with their aliases, as a sentence names them."""
        *others, last = map(self._told, self.models if models is None else models)
        return f"{', '.join(others)} and {last}" if others else last

    def _told(self, model: str) -> str:
        aliases = [alias for alias, meant in self.aliases.items() if meant == model]
        return f"{model} (also as {', '.join(aliases)})" if aliases else model


def _distinct(pairs: list[str]) -> list[str]:
    """Return the pairs without blanks in between; raises ValueError if two have the same alias."""
    pairs = [pair for pair in pairs if pair]
    if twice := _first_twice([pair.partition("=")[0] for pair in pairs]):
        raise ValueError(f"ALIASES names {twice} twice: name each alias once")
    return pairs


def _first_twice(names: Collection[str]) -> str | None:
    """Return the first name that means the same as an earlier one."""
    seen = set[str]()
    for name in names:
        if full_name(name) in seen:
            return name
        seen.add(full_name(name))
    return None


def with_tag(model: str) -> str:
    """Return a model's name with its tag, which is `latest` by default."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def full_name(model: str) -> str:
    """Return a model's name as Ollama compares it: with its tag, without Ollama's registry, in lower case."""
    name = with_tag(model).lower()
    return name.removeprefix("registry.ollama.ai/").removeprefix("library/")
