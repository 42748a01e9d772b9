"""Names that cross a border: between stacks, manifests, workflows, and AWS."""

PROJECT = "sluice"
IMAGE_REPOSITORY, WEIGHTS_REPOSITORY = "sluice/gateway", "sluice/weights"
RELEASE_ANNOTATION = "sluice/release"  # of pods: a hash of the images and settings that they are made of
PROXY_REPOSITORY = (
    "sluice/haproxy"  # our own copy of HAPROXY_IMAGE, under the same digest: .github/workflows/deliver.yml
)
# github.com/docker-library/repo-info has the digest of each tag: repos/haproxy/remote/3.0.md, 25 September 2026.
HAPROXY_IMAGE = (
    "docker.io/library/haproxy:3.0.28@sha256:66eb31bc04389738bb6595597feab18733194b14238e4f4e0986013ed6e31dae"
)
# Node pools: for the pods that generate, which alone tolerate its taint, and for everything else.
MODEL_POOL, PLATFORM_POOL = "sluice", "platform"
MODEL_TAINT = "sluice/model"
ACCESS_MINUTES = 480  # after which an instance of `make access` ends itself


def manifests_branch(stage: str) -> str:
    """Return the branch with a stage's rendered manifests, which only CI writes."""
    return f"stages/{stage}"
