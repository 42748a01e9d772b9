"""What a Stage says to the gateway and to Ollama, as environment variables."""

from pathlib import Path

from config import Stage
from launcher.ollama_process import ollama_environ
from service.settings import Settings

FIRST_TOKEN = Path(__file__).with_name("first_token.py")
KEYS_FOLDER = "/etc/sluice"


def gateway_settings(stage: Stage) -> dict[str, str]:
    """Return the settings of service/settings.py that the Stage decides; the image and the defaults have the rest."""
    values: dict[str, object] = {
        "MODEL": stage.model.name,
        "SLOTS": stage.slots,
        "THREADS": stage.cpus,
        "CONTEXT_LENGTH": stage.context_length,
        # While the queue moves from one proxy to another, each of them may send as much as there are slots.
        "MAX_QUEUE": stage.slots * stage.proxy_replicas,
        "QUEUE_TIMEOUT": stage.queue_timeout,
        "GENERATION_TIMEOUT": stage.generation_timeout,
        "MAX_TOKENS": stage.max_tokens,
        "PRESTOP": stage.prestop,
    }
    if stage.api_keys:
        values["API_KEYS_FILE"] = f"{KEYS_FOLDER}/keys.toml"
    return {name: str(value) for name, value in values.items()}


def ollama_variables(stage: Stage) -> dict[str, str]:
    """Return Ollama's own environment variables, which follow from the same settings."""
    return ollama_environ(Settings.from_environ(gateway_settings(stage)), {})
