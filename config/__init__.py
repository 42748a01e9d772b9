"""Every stage in code: what one pod can do, what waits how long, how it scales, and on what it runs.

The stacks and the manifests both read a Stage (stage.py), so a number stands in one place; numbers that must agree are
checked when a Stage is made (checks.py). stages.py has the stages that there are.
"""

import sys

from config.choices import Autoscaling, LoadBalancer
from config.containers import BUFFER_BYTES, COPIES, GATEWAY_BASE_MIB, GATEWAY_CPUS, PROXY_MIB
from config.delays import BALANCER_DRAIN, BALANCER_REGISTER, EXIT_MARGIN, NODE_DRAIN
from config.errors import ConfigError
from config.model import (
    ALL_MINILM,
    GEMMA_270M,
    KV_SHARES,
    MOONDREAM,
    OLLAMA_OVERHEAD_MIB,
    SPECULATIONS,
    Model,
    ServedModel,
)
from config.names import (
    ACCESS_MINUTES,
    HAPROXY_IMAGE,
    IMAGE_REPOSITORY,
    MODEL_POOL,
    MODEL_TAINT,
    PLATFORM_POOL,
    PROJECT,
    PROXY_REPOSITORY,
    RELEASE_ANNOTATION,
    WEIGHTS_REPOSITORY,
    manifests_branch,
)
from config.node import (
    C7G_2XLARGE,
    C7G_XLARGE,
    C7I_2XLARGE,
    C7I_XLARGE,
    DAEMON_CPUS,
    DAEMON_MIB,
    M7G_LARGE,
    Node,
)
from config.stage import Stage

try:
    from config.stages import DEV, LOCAL, PROD, STAGES, find_stage
except ConfigError as error:  # of a stage as somebody has written it: every command needs it
    sys.exit(f"sluice: config/stages.py: {error}")

__all__ = [
    "ACCESS_MINUTES",
    "ALL_MINILM",
    "BALANCER_DRAIN",
    "BALANCER_REGISTER",
    "BUFFER_BYTES",
    "C7G_2XLARGE",
    "C7G_XLARGE",
    "C7I_2XLARGE",
    "C7I_XLARGE",
    "COPIES",
    "DAEMON_CPUS",
    "DAEMON_MIB",
    "DEV",
    "EXIT_MARGIN",
    "GATEWAY_BASE_MIB",
    "GATEWAY_CPUS",
    "GEMMA_270M",
    "HAPROXY_IMAGE",
    "IMAGE_REPOSITORY",
    "KV_SHARES",
    "LOCAL",
    "M7G_LARGE",
    "MODEL_POOL",
    "MODEL_TAINT",
    "MOONDREAM",
    "NODE_DRAIN",
    "OLLAMA_OVERHEAD_MIB",
    "PLATFORM_POOL",
    "PROD",
    "PROJECT",
    "PROXY_MIB",
    "PROXY_REPOSITORY",
    "RELEASE_ANNOTATION",
    "SPECULATIONS",
    "STAGES",
    "WEIGHTS_REPOSITORY",
    "Autoscaling",
    "ConfigError",
    "LoadBalancer",
    "Model",
    "Node",
    "ServedModel",
    "Stage",
    "find_stage",
    "manifests_branch",
]
