"""Objects whose spec is plain data, such as custom resources."""

from typing import Any

from cdk8s import ApiObject, ApiObjectMetadata, JsonPatch
from constructs import Construct


def custom_object(
    scope: Construct, id_: str, *, api_version: str, kind: str, name: str, spec: dict[str, Any]
) -> ApiObject:
    """Return an object with this spec, written as the API has it."""
    metadata = ApiObjectMetadata(name=name)
    obj = ApiObject(scope, id_, api_version=api_version, kind=kind, metadata=metadata)
    obj.add_json_patch(JsonPatch.add("/spec", spec))
    return obj
