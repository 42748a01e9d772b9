"""What a release is made of: the digest of the gateway's image, and for each model that of its weights."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from config import IMAGE_REPOSITORY, RELEASE_ANNOTATION, WEIGHTS_REPOSITORY
from delivery.git import attempt

# Of a model's files, by cdk8s_manifests/gateway.py: its Deployment has the digest, its ConfigMap the model's name.
DEPLOYMENT, CONFIG, MODEL = "deployment-", "configmap-", "  MODEL: "
FRONTS = "deployment-proxy.yaml"


class NoDigests(Exception):
    """Manifests aren't those of one release; the message says what they have, and not whose they are."""


@dataclass(frozen=True)
class Digests:
    """The digest of the gateway's image, and those of the weights by their models' names."""

    image: str
    weights: Mapping[str, str]

    def cover(self, other: "Digests") -> bool:
        """Say whether these are another release's too, which may have fewer models."""
        return self.image == other.image and other.weights.items() <= self.weights.items()

    @property
    def weights_text(self) -> str:
        """Return the weights as `python -m cdk8s_manifests` takes them: a digest alone if there is one model.

        That is what it takes at every commit of main, and an old one may be rendered again, to roll back to it.
        """
        if len(self.weights) == 1:
            return next(iter(self.weights.values()))
        return " ".join(f"{name}={digest}" for name, digest in self.weights.items())


def read_digests(repo: Path, tree: str) -> Digests:
    """Return the digests in the manifests of a tree or commit. Raises NoDigests."""
    images = {digest for found in _references(repo, tree, IMAGE_REPOSITORY).values() for digest in found}
    if len(images) != 1:
        raise NoDigests(f"{len(images)} digests of {IMAGE_REPOSITORY}, not one")
    models, weights = _models(repo, tree), dict[str, str]()
    for path, digests in _references(repo, tree, WEIGHTS_REPOSITORY).items():
        if len(digests) != 1:
            raise NoDigests(f"{len(digests)} digests of {WEIGHTS_REPOSITORY} in {path}, not one")
        config = path.replace(DEPLOYMENT, CONFIG)
        if config not in models:
            raise NoDigests(f"weights in {path}, and no model in {config}")
        digest, model = digests.pop(), models[config]
        if weights.setdefault(model, digest) != digest:
            raise NoDigests(f"2 digests of {WEIGHTS_REPOSITORY} for {model}, not one")
    if not weights:
        raise NoDigests(f"0 digests of {WEIGHTS_REPOSITORY}, not one for each model")
    return Digests(images.pop(), weights)


def read_releases(repo: Path, tree: str) -> dict[str, str]:
    """Return which release the manifests make each model's pods, by its name, and, by "", the fronts.

    Their answers say the same. Returns nothing for what was rendered before they did.
    """
    names = {path.replace(CONFIG, DEPLOYMENT): model for path, model in _models(repo, tree).items()}
    found = _grep(repo, tree, f"^ +{RELEASE_ANNOTATION}: .*$")
    return {"" if path.endswith(FRONTS) else names[path]: _value(line) for path, line in found}


def _references(repo: Path, tree: str, repository: str) -> dict[str, set[str]]:
    """Return the digests of a repository's images, by the files that name them."""
    found = defaultdict(set)
    for path, reference in _grep(repo, tree, f"/{repository}@sha256:[0-9a-f]{{64}}"):
        found[path].add(reference.partition("@")[2])
    return found


def _models(repo: Path, tree: str) -> dict[str, str]:
    """Return the model of each file that has one."""
    found = _grep(repo, tree, f"^{MODEL}.*$")
    return {path: _value(line) for path, line in found}


def _value(line: str) -> str:
    """Return a YAML line's value, which has quotes if it could be a number."""
    return line.partition(": ")[2].strip().strip("\"'")


def _grep(repo: Path, tree: str, pattern: str) -> list[tuple[str, str]]:
    """Return each match of an extended pattern with the path of its file in the tree."""
    lines = attempt(repo, "grep", "--null", "-oE", pattern, tree).stdout.splitlines()
    return [(path.removeprefix(f"{tree}:"), match) for path, _, match in (line.partition("\0") for line in lines)]
