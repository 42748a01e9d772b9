from dataclasses import replace

import pytest

from config import DEV, PROD
from delivery.address import address
from delivery.branch import Refused
from tests.support.rendered import CONTEXT

PLAIN = replace(CONTEXT, domain="")
BALANCER = "http://k8s-sluice-sluice-0123456789-42.eu-central-1.elb.amazonaws.com"


def test_a_stage_answers_at_its_name_in_the_domain_whatever_it_is_said_to_be_reached_by() -> None:
    assert address(DEV, CONTEXT, ["http://evil.example"]) == "https://dev.llm.example.com"
    assert address(PROD, CONTEXT, []) == "https://llm.example.com"


def test_an_address_in_cdk_json_comes_before_both() -> None:
    own = replace(CONTEXT, addresses=("dev=https://llm.internal:8443", "prod=http://10.1.0.7"))
    assert address(DEV, own, [BALANCER]) == "https://llm.internal:8443"
    assert address(PROD, own, []) == "http://10.1.0.7"
    assert address(PROD, replace(own, addresses=("dev=https://llm.internal",)), []) == "https://llm.example.com"


def test_without_a_domain_it_answers_at_its_load_balancer() -> None:
    assert address(DEV, PLAIN, ["http://evil.example", f"{BALANCER}/"]) == BALANCER


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example",
        "http://x.eu-central-1.elb.amazonaws.com.evil.example",
        "http://x.us-east-1.elb.amazonaws.com",
        "http://x.eu-central-1.elb.amazonaws.com@evil.example",
        "http://x.eu-central-1.elb.amazonaws.com/../x",
        "file:///etc/passwd",
    ],
)
def test_no_other_address_gets_the_smokes_key(url: str) -> None:
    with pytest.raises(Refused, match="set addresses=dev=https://… there to where dev is reached"):
        address(DEV, PLAIN, [url])
