from typing import Any

import pytest

from service.system_role import has_system_role, without_system


@pytest.mark.parametrize(
    ("template", "has"),
    [
        ("", True),  # what writes the prompt isn't known
        ("{{ if .System }}{{ .System }}{{ end }}{{ .Prompt }}", True),
        ("{{ range .Messages }}<|{{ .Role }}|>{{ .Content }}{{ end }}", True),
        ("{% for m in messages %}<|im_start|>{{ m['role'] }}{{ m['content'] }}{% endfor %}", True),
        ("{{ if .Prompt }} Question: {{ .Prompt }}\n\n{{ end }} Answer: {{ .Response }}", False),  # Moondream's
        ("{{ .Prompt }}", False),
        (
            "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}",
            False,
        ),
    ],
)
def test_templates_are_told_apart(template: str, has: bool) -> None:
    assert has_system_role(template) == has


@pytest.mark.parametrize(
    ("messages", "moved"),
    [
        ([("user", "a")], [("user", "a")]),
        ([("system", "s"), ("user", "a")], [("user", "s\n\na")]),
        (
            [("system", "s"), ("system", "t"), ("assistant", "b"), ("user", "a")],
            [("assistant", "b"), ("user", "s\n\nt\n\na")],
        ),
        ([("system", "s")], [("user", "s")]),
        ([("system", "s"), ("assistant", "b")], [("user", "s"), ("assistant", "b")]),
        ([("system", ""), ("user", "a")], [("user", "a")]),
    ],
)
def test_what_the_system_says_stands_before_the_first_of_the_user(messages: Any, moved: Any) -> None:
    given = [{"role": role, "content": content, "images": []} for role, content in messages]
    found = [(each["role"], each["content"]) for each in without_system(given)]
    assert found == moved
