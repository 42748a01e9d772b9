"""A release has a digest for each of its models, whether it is published, promoted or taken back."""

import json
from typing import Any

import pytest

from cdk8s_manifests.names import PROXY, object_names
from config import DEV, MOONDREAM, RELEASE_ANNOTATION, Stage
from delivery.approved import Approved
from delivery.branch import Branch, Refused
from delivery.digests import Digests, read_releases
from delivery.manifests import weights_of
from delivery.promote import has_run, promote
from delivery.publish import publish
from delivery.rollback import after_failure, propose_revert
from tests.delivery.conftest import Command
from tests.support.rendered import IMAGE, WEIGHTS, Object, files, find
from tests.support.repositories import Origin, digest, git, manifests
from tests.support.several_models import LOCAL_TWO, TWO_MODELS

TWO = Digests(digest("b"), {"moondream": digest("0"), "all-minilm": digest("1")})


def release(branch: Branch, source: str, image: str = "b", **more: str) -> str:
    """Publish a release of moondream and other models, each digest named by one hex digit; return the commit."""
    commit = publish(branch, folder=branch.store(manifests(image, **more)), source=source, main=source)
    assert commit
    return commit


def test_each_models_digest_is_found_in_what_is_rendered(branch: Branch) -> None:
    for stage in (LOCAL_TWO, TWO_MODELS):
        wanted = {view.model.name: WEIGHTS for view in stage.each_model}
        assert branch.digests(branch.store(files(stage))) == Digests(IMAGE, wanted)


@pytest.mark.parametrize("stage", [LOCAL_TWO, TWO_MODELS])
def test_the_releases_of_pods_are_found_in_what_is_rendered(branch: Branch, stage: Stage) -> None:
    found = read_releases(branch.repo, branch.store(files(stage)))
    deployments = {view.model.name: object_names(stage, view).component for view in stage.each_model} | {"": PROXY}
    assert found == {name: release_of(find(stage, "Deployment", each)) for name, each in deployments.items()}
    assert len(set(found.values())) == len(found)


def release_of(deployment: Object) -> Any:
    return deployment["spec"]["template"]["metadata"]["annotations"][RELEASE_ANNOTATION]


def test_what_was_rendered_before_pods_had_releases_has_none(branch: Branch) -> None:
    assert read_releases(branch.repo, branch.store(manifests("b"))) == {}


def test_a_release_says_which_weights_are_whose(origin: Origin, branch: Branch, command: Command) -> None:
    tip = release(branch, origin.main[1], all_minilm="1")
    assert branch.digests(tip) == TWO
    weights = f"all-minilm={digest('1')} moondream={digest('0')}"
    assert f"weights {weights}" in origin.log("stages/dev -1", "%B")
    outputs = {"source": origin.main[1], "image": digest("b"), "weights": weights}
    assert command("source", "--stage", "dev") == (0, outputs)


def test_the_weights_of_one_model_are_a_digest_as_every_commit_of_main_takes_it(
    origin: Origin, branch: Branch, command: Command
) -> None:
    release(branch, origin.main[1])
    assert command("source", "--stage", "dev")[1]["weights"] == digest("0")


def test_a_name_that_yaml_quotes_is_read_without_its_quotes(branch: Branch) -> None:
    quoted = {name: text.replace("moondream", '"1e3"') for name, text in manifests("a").items()}
    assert branch.digests(branch.store(quoted)).weights == {"1e3": digest("0")}


def changed(name: str, old: str, new: str) -> dict[str, str]:
    text = manifests("a")[name]
    assert old in text
    return {**manifests("a"), name: text.replace(old, new)}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (changed("deployment-sluice.yaml", "sluice/weights", "other"), "0 digests of sluice/weights, not one for each"),
        (changed("deployment-sluice.yaml", "sluice/gateway", "other"), "0 digests of sluice/gateway, not one"),
        (
            changed("configmap-sluice.yaml", "  MODEL:", "  OTHER:"),
            "weights in deployment-sluice.yaml, and no model in configmap-sluice.yaml",
        ),
        (
            changed("deployment-sluice.yaml", "reference:", f"reference: a/sluice/weights@{digest('c')}\nreference:"),
            "2 digests of sluice/weights in deployment-sluice.yaml, not one",
        ),
        (
            {**manifests("a"), **{f"{name[:-5]}-2.yaml": text for name, text in manifests("a", "2").items()}},
            "2 digests of sluice/weights for moondream, not one",
        ),
    ],
)
def test_manifests_that_dont_say_each_models_weights_are_refused(
    branch: Branch, given: dict[str, str], reason: str
) -> None:
    with pytest.raises(Refused, match=f"dev at [0-9a-f]{{12}} has {reason}"):
        branch.digests(branch.store(given))


def test_a_promotion_takes_every_models_digest(origin: Origin, branch: Branch, prod: Branch) -> None:
    release(branch, origin.main[1], all_minilm="1")
    proposal = promote(branch, prod, source=origin.main[1], folder=prod.store(manifests("b", all_minilm="1")))
    assert proposal
    approved = json.loads(git(origin.path, "show", f"{proposal.head}:delivery/prod.json"))
    assert approved["weights"] == TWO.weights
    assert f"weights all-minilm={digest('1')} moondream={digest('0')}." in proposal.text


def test_prod_may_have_fewer_models_than_dev_and_none_that_dev_has_not_tried(
    origin: Origin, branch: Branch, prod: Branch
) -> None:
    release(branch, origin.main[1], all_minilm="1")
    assert promote(branch, prod, source=origin.main[1], folder=prod.store(manifests("b")))
    for more in ({"all_minilm": "2"}, {"all_minilm": "1", "llava": "3"}):
        with pytest.raises(Refused, match="was rendered with other digests than dev has"):
            promote(branch, prod, source=origin.main[1], folder=prod.store(manifests("b", **more)))


def test_what_dev_has_run_counts_with_the_digests_of_the_same_models(origin: Origin, branch: Branch) -> None:
    tip, source = release(branch, origin.main[1], all_minilm="1"), origin.main[1]
    assert has_run(branch, tip, source, TWO)
    assert has_run(branch, tip, source, Digests(TWO.image, {"moondream": digest("0")}))
    assert not has_run(branch, tip, source, Digests(TWO.image, {"moondream": digest("1")}))
    assert not has_run(branch, tip, source, Digests(TWO.image, {**TWO.weights, "llava": digest("3")}))
    assert not has_run(branch, tip, source, Digests(digest("c"), TWO.weights))


def test_a_rollback_takes_every_model_back(origin: Origin, prod: Branch) -> None:
    release(prod, origin.main[0], all_minilm="1")
    bad = release(prod, origin.main[1], all_minilm="2")
    done = propose_revert(prod, after_failure(prod, revision=bad))
    assert done.proposal
    approved = json.loads(git(origin.path, "show", f"{done.proposal.head}:delivery/prod.json"))
    assert approved["weights"] == TWO.weights
    changes = [line for line in done.proposal.text.splitlines() if line.startswith("+++ ")]
    assert changes == ["+++ b/deployment-sluice-all-minilm.yaml"]  # the other model's pods stay


def test_what_main_approves_has_its_models(
    origin: Origin, branch: Branch, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = branch.repo / "prod.json"
    path.write_text(Approved.of(TWO, source=origin.main[1]).text())
    monkeypatch.setattr("delivery.approved.PATH", path)
    weights = f"moondream={digest('0')} all-minilm={digest('1')}"
    code, outputs = command("plan", "--stage", "prod")
    assert (code, outputs) == (0, {"source": origin.main[1], "image": digest("b"), "weights": weights})


def test_a_stage_has_the_weights_of_each_of_its_models(tmp_path: Any) -> None:
    path = tmp_path / "weights.json"
    path.write_text(json.dumps({**TWO.weights, "llava": digest("3")}))
    assert weights_of(TWO_MODELS, path) == TWO.weights
    assert weights_of(DEV, path) == {MOONDREAM.name: digest("0")}
    path.write_text(json.dumps({"moondream": digest("0")}))
    with pytest.raises(Refused, match="has no all-minilm, a model of stage dev: run the models workflow for it"):
        weights_of(TWO_MODELS, path)
    path.write_text(json.dumps({"moondream": "latest", "all-minilm": digest("1")}))
    with pytest.raises(Refused, match=r"weights\.json has 'latest' for moondream, which is not a digest"):
        weights_of(TWO_MODELS, path)
