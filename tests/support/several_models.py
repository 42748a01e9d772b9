"""A stage with a chat model and an embedding model, as docs/operations.md shows it."""

from dataclasses import replace

from config import ALL_MINILM, C7I_XLARGE, DEV, LOCAL, PROD, Autoscaling, ServedModel

EMBEDDING = ServedModel(
    model=ALL_MINILM,
    aliases=("text-embedding-3-small",),
    slots=2,
    cpus=1,
    prompt_cache_mib=0,
    min_replicas=0,
    max_replicas=2,
    requests_per_replica=2,
)
TWO_MODELS = replace(DEV, aliases=("gpt-4o-mini",), more_models=(EMBEDDING,))
LOCAL_TWO = replace(LOCAL, autoscaling=Autoscaling.REQUESTS, aliases=TWO_MODELS.aliases, more_models=(EMBEDDING,))
TWO_NODES = replace(PROD, more_models=(replace(EMBEDDING, node=C7I_XLARGE),))
