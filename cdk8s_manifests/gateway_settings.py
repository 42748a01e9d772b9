"""The environment variables of the gateway, in its two roles, and of Ollama, from a Stage."""

from pathlib import Path

from cdk8s_manifests.names import PROXY_PORT, host
from config import Stage
from launcher.ollama_process import ollama_environ
from service.settings import Role, Settings

FIRST_TOKEN = Path(__file__).with_name("first_token.py")
KEYS_FOLDER = "/etc/sluice"
MIB = 2**20
YEAR = 365 * 86_400  # seconds


def back_settings(stage: Stage) -> dict[str, str]:
    """Return the settings (service/settings.py) of a model's pod; the others are the image's or the defaults.

    stage: as the model sees it.
    """
    values: dict[str, object] = {
        "MODEL": stage.model.name,
        **_common(stage),
        "ROLE": Role.BACK,
        "PRESTOP": stage.prestop,
        "SLOTS": stage.slots,
        "THREADS": stage.cpus,
        "PROMPT_CACHE_MIB": stage.prompt_cache_mib,
        # While the queue moves from one proxy to another, each of them may fill all slots.
        "MAX_QUEUE": stage.back_in_flight - stage.slots,
        # A front has checked the request, so only what is larger than any front sends is refused here.
        "MAX_BODY_BYTES": stage.payload_mib * MIB,
        "RECEIVE_MIB": stage.back_in_flight * stage.payload_mib,
    }
    if stage.traces_to:
        values["OTEL_TRACES_SAMPLER"] = "parentbased_always_off"  # as its front has decided
    return _as_text(values)


def front_settings(stage: Stage, *, tls: bool) -> dict[str, str]:
    """Return the settings of a front, which anybody may call. tls: the load balancer ends it."""
    values: dict[str, object] = {
        "MODEL": " ".join(view.model.name for view in stage.each_model),
        **_common(stage),
        "ROLE": Role.FRONT,
        "PRESTOP": stage.front_prestop,
        "UPSTREAM": f"http://127.0.0.1:{PROXY_PORT}",
        "MAX_IN_FLIGHT": stage.max_in_flight,
        "MAX_CONNECTIONS": stage.max_connections,
        "MAX_BODY_BYTES": stage.max_body_mib * MIB,
        "RECEIVE_MIB": stage.receive_mib,
        "SEND_MIB": stage.send_mib,
        "HEAD_TIMEOUT": stage.head_timeout,
        "BODY_TIMEOUT": stage.body_timeout,
        "WRITE_TIMEOUT": stage.write_timeout,
        "KEEPALIVE": stage.client_timeout,  # longer than the load balancer keeps its connections to us
        "QUOTA_SHARES": stage.proxy_replicas,
    }
    if aliases := [f"{alias}={view.model.name}" for view in stage.each_model for alias in view.aliases]:
        values["ALIASES"] = " ".join(aliases)
    if stage.traces_to:
        values |= {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": stage.traced_share}
    if tls:
        values["HSTS_SECONDS"] = YEAR
    if stage.api_keys:
        values["API_KEYS_FILE"] = f"{KEYS_FOLDER}/keys.toml"
    return _as_text(values)


def ollama_variables(stage: Stage) -> dict[str, str]:
    """Return Ollama's own environment variables, which follow from the same settings."""
    kv_type = "" if stage.kv_type == "f16" else stage.kv_type  # f16 is Ollama's default
    speculation = "" if stage.speculation == "none" else stage.speculation
    more = {"OLLAMA_KV_CACHE_TYPE": kv_type, "LLAMA_ARG_SPEC_TYPE": speculation}
    return ollama_environ(Settings.from_environ(back_settings(stage)), more)


def _common(stage: Stage) -> dict[str, object]:
    values: dict[str, object] = {
        "CONTEXT_LENGTH": stage.context_length,
        "QUEUE_TIMEOUT": stage.queue_timeout,
        "GENERATION_TIMEOUT": stage.generation_timeout,
        "MAX_TOKENS": stage.max_tokens,
    }
    if stage.traces_to:
        service, port = stage.traces_to.split(":")
        values["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://{host(*service.split('.'))}:{port}"
        values["OTEL_RESOURCE_ATTRIBUTES"] = f"deployment.environment.name={stage.name}"
    return values


def _as_text(values: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}
