from dataclasses import replace
from typing import Any

import pytest

from config import DEV, LOCAL, PROD, Stage
from stacks.ingress_class import ingress_class

EACH = pytest.mark.parametrize("stage", [DEV, PROD], ids=lambda stage: stage.name)
CERTIFICATE = "arn:aws:acm:eu-central-1:123456789012:certificate/0-1"


def params(stage: Stage, certificate_arn: str = "") -> Any:
    return ingress_class(stage, certificate_arn=certificate_arn)[0]["spec"]


def test_the_class_is_auto_modes_and_names_its_parameters_which_are_there_first() -> None:
    parameters, class_ = ingress_class(PROD, certificate_arn="")
    assert (parameters["kind"], class_["kind"]) == ("IngressClassParams", "IngressClass")
    assert class_["spec"]["controller"] == "eks.amazonaws.com/alb"
    named = {"apiGroup": "eks.amazonaws.com", "kind": "IngressClassParams", "name": parameters["metadata"]["name"]}
    assert class_["spec"]["parameters"] == named
    assert ingress_class(LOCAL, certificate_arn="") == []


@EACH
def test_the_load_balancer_waits_longer_than_what_is_behind_it(stage: Stage) -> None:
    attributes = {each["key"]: each["value"] for each in params(stage)["loadBalancerAttributes"]}
    assert attributes["idle_timeout.timeout_seconds"] == str(stage.idle_timeout)


def test_it_is_reached_from_the_internet_or_from_the_vpc() -> None:
    assert params(DEV)["scheme"] == "internet-facing"
    assert params(replace(DEV, internal=True))["scheme"] == "internal"


@EACH
def test_only_our_namespace_may_use_it(stage: Stage) -> None:
    assert params(stage)["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}}


def test_it_has_the_stages_certificate() -> None:
    assert params(PROD, CERTIFICATE)["certificateARNs"] == [CERTIFICATE]
    assert "certificateARNs" not in params(PROD)
