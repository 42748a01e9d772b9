"""Files of API keys."""

from pathlib import Path

from service.keys import digest
from service.model_names import ModelNames
from testbed.stand_in import MODEL

SERVED = ModelNames((MODEL,))


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def entry(name: str, token: str, **fields: int | list[str]) -> str:
    return "\n".join([f"[{name}]", f'sha256 = "{digest(token)}"', *(f"{k} = {v}" for k, v in fields.items())]) + "\n"
