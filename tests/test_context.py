"""What an owner puts into cdk.json is checked before anything is built from it."""

import json
from pathlib import Path
from typing import Any

import pytest

from config import ConfigError
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
CERTIFICATE = "arn:aws:acm:eu-central-1:123456789012:certificate/0123abcd-01ab-01ab-01ab-0123456789ab"


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
        ("certificate_arn", "arn:aws:iam::123456789012:server-certificate/x"),
    ],
)
def test_a_malformed_value_names_the_field_and_what_is_allowed(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{name}='.*' is not (the|a|an|its|ARNs)\b"):
        read(**{name: value})


def test_a_certificate_must_be_of_the_same_region() -> None:
    assert read(domain="llm.example.com", certificate_arn=CERTIFICATE).domain == "llm.example.com"
    with pytest.raises(ConfigError, match="certificate_arn is of us-east-1, region=eu-central-1"):
        read(domain="llm.example.com", certificate_arn=CERTIFICATE.replace("eu-central-1", "us-east-1"))


@pytest.mark.parametrize("only", [{"domain": "llm.example.com"}, {"certificate_arn": CERTIFICATE}])
def test_a_domain_and_its_certificate_go_together(only: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="domain and certificate_arn go together"):
        read(**only)
