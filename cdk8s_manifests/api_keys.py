"""API keys from AWS Secrets Manager, brought into the namespace by the External Secrets Operator."""

from typing import Any

from constructs import Construct

from cdk8s_manifests.custom_object import custom_object
from config import Stage

STORE = "aws"  # the ClusterSecretStore, which is named when External Secrets is installed


def api_keys(scope: Construct, id_: str, *, stage: Stage) -> None:
    """Create the ExternalSecret that fills Secret `stage.api_keys`; without a source, the Secret is created by hand."""
    if not stage.api_keys_source:
        return
    spec: dict[str, Any] = {
        "refreshInterval": "1m",
        "secretStoreRef": {"kind": "ClusterSecretStore", "name": STORE},
        "target": {"name": stage.api_keys},
        "data": [{"secretKey": "keys.toml", "remoteRef": {"key": stage.api_keys_source}}],
    }
    custom_object(
        scope, id_, api_version="external-secrets.io/v1", kind="ExternalSecret", name=stage.api_keys, spec=spec
    )
