"""The served models: each has a Gateway of its own, so that one's requests never wait for another's slots."""

import threading
from dataclasses import dataclass, field

from service.errors import Forbidden, ModelNotServed
from service.gateway import Gateway
from service.keys import Key
from service.metrics import Metrics
from service.settings import Settings


@dataclass(frozen=True)
class Models:
    """The gateways, the default model's first, and what all requests share. settings: those of all models."""

    settings: Settings
    gateways: tuple[Gateway, ...]
    metrics: Metrics
    draining: threading.Event = field(default_factory=threading.Event)

    @property
    def default(self) -> Gateway:
        """Return the gateway of the default model."""
        return self.gateways[0]

    def allowed(self, key: Key | None) -> list[Gateway]:
        """Return the gateways of the models that a caller with this key, or without one, may use."""
        return [gateway for gateway in self.gateways if key is None or key.may_use(gateway.settings.model)]

    def find(self, name: str | None, key: Key | None = None) -> Gateway:
        """Return the gateway of the model that a request names; None: of the first that its key may use.

        Raises ModelNotServed, or Forbidden if the key may not use the model.
        """
        allowed = {gateway.settings.model: gateway for gateway in self.allowed(key)}
        if name is None:
            return next(iter(allowed.values()))
        names = self.settings.names
        if (model := names.meant(name)) is None:
            raise ModelNotServed(f"model: this server serves {names.told(allowed)} only")
        if model not in allowed:
            raise Forbidden(f"model: this key may use {names.told(allowed)} only")
        return allowed[model]
