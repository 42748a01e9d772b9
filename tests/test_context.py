"""What an owner puts into cdk.json is checked before anything is built from it."""

import json
from pathlib import Path
from typing import Any

import pytest

from config import DEV, PROD, ConfigError
from context import Context

GOOD = {
    "account": "123456789012",
    "region": "eu-central-1",
    "github_owner": "example",
    "github_owner_id": "1001",
    "github_repository": "sluice",
    "github_repository_id": "2002",
    "admin_arns": "arn:aws:iam::123456789012:role/Admin, arn:aws:iam::123456789012:user/alice",
}


def read(**changes: Any) -> Context:
    return Context.read({**GOOD, **changes}.get)


def test_the_values_of_cdk_json_are_read(tmp_path: Path) -> None:
    path = tmp_path / "cdk.json"
    path.write_text(json.dumps({"context": GOOD}))
    context = Context.from_cdk_json(path)
    assert context.registry == "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
    assert [arn.rpartition("/")[2] for arn in context.admin_arns] == ["Admin", "alice"]


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("empty", [None, "", "  "])
def test_a_missing_value_says_where_to_set_it(name: str, empty: str | None) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is missing: set it in cdk.json or with -c {name}="):
        read(**{name: empty})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("account", "1234"),
        ("account", "12345678901a"),
        ("region", "Frankfurt"),
        ("github_owner", "-example"),
        ("github_owner_id", "example"),
        ("github_repository", "example/sluice"),
        ("github_repository_id", "0"),
        ("github_repository_id", "20*"),
        ("admin_arns", "alice"),
        ("domain", "https://llm.example.com"),
        ("hosted_zone_id", "/hostedzone/Z1"),
        ("addresses", "https://llm.example.com"),
        ("addresses", "dev=llm.example.com"),
        ("addresses", "dev=https://llm.example.com/v1"),
    ],
)
def test_a_malformed_value_names_the_field_and_what_is_allowed(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{name}='.*' is not (the|a|an|its|ARNs|stages)\b"):
        read(**{name: value})


def test_a_zone_is_of_a_domain() -> None:
    with pytest.raises(ConfigError, match="hosted_zone_id=Z1 needs domain: name the domain of that zone"):
        read(hosted_zone_id="Z1")
    assert read(domain="llm.example.com", hosted_zone_id="Z1").hosted_zone_id == "Z1"


def test_an_address_is_of_a_stage_that_there_is() -> None:
    context = read(addresses="dev=https://dev.example.com, prod=http://10.1.0.7:8080")
    assert (context.address(DEV), context.address(PROD)) == ("https://dev.example.com", "http://10.1.0.7:8080")
    assert read().address(DEV) == ""
    with pytest.raises(ConfigError, match="stage 'staging' doesn't exist: local, dev, prod do"):
        read(addresses="staging=https://llm.example.com")


def test_each_stage_has_a_name_in_the_domain() -> None:
    context = read(domain="llm.example.com")
    assert (context.host(PROD), context.host(DEV)) == ("llm.example.com", "dev.llm.example.com")
    assert read().host(PROD) == ""
