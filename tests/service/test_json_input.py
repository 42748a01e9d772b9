import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.bodies import WIDE, Body
from service.errors import InvalidRequest
from service.json_input import MAX_DEPTH, MAX_VALUES, read_json, write_size
from tests.support.costs import cost_of_body

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
EIGHT_MB = 8_388_608


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not valid JSON"),
        ("{", "is not valid JSON"),
        ('{"a": 1,}', "is not valid JSON"),
        ("{'a': 1}", "is not valid JSON"),
        ("[1] [2]", "is not valid JSON"),
        ("[NaN]", "is not valid JSON"),
        ("[Infinity]", "is not valid JSON"),
        ("[1e999]", "a number is too large"),
        (f"[{'9' * 400}]", "a number is too large"),
        (f"[{'9' * 5000}]", "is not valid JSON: number out of range"),
        ('["\\ud800"]', "is not valid JSON"),
        ('{"a": {"b": 1, "b": 2}}', "an object has the same name twice"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "is nested too deeply; at most 64"),
        ("[" * 50_000, "more than 10000 values"),
        ("[" + "1," * MAX_VALUES + "1]", "more than 10000 values"),
        (f'{{"{"a" * (1 << 19)}": {{"{"b" * ((1 << 19) + 1)}": 1}}}}', "its names have more than 1048576 characters"),
        ('["' + '\\"' * (1 << 20) + 'x\\n"]', "more than 1048576 escaped characters"),
    ],
)
def test_what_is_not_plain_json_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_json(text.encode(), "here")
    assert refused.value.message.startswith(f"here: {complaint}")


def test_bytes_that_are_no_utf_8_are_refused_and_a_byte_order_mark_is_not() -> None:
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        read_json(b'{"a": "\xff"}')
    assert read_json(b'\xef\xbb\xbf{"a": "\xc3\xa9"}') == {"a": "é"}


def test_what_looks_like_structure_inside_of_strings_is_not_counted() -> None:
    text = ('[{,:"\\' * 5000).replace("\\", "\\\\").replace('"', '\\"')
    assert read_json(f'{{"a": "{text}", "b:": "\\\\"}}'.encode()) == {"a": '[{,:"\\' * 5000, "b:": "\\"}


@given(JSON)
def test_every_document_is_read_as_it_was_written(document: object) -> None:
    for ascii_only in (True, False):
        text = json.dumps(document, ensure_ascii=ascii_only)
        assert read_json(text.encode()) == document
    written = len(json.dumps(document, ensure_ascii=False, separators=(",", ":")))
    assert written // 6 <= write_size(document)  # JSON writes a control character as six


@given(st.binary() | st.text(alphabet='[]{}",:\\ue1 ').map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        read_json(data)
    except InvalidRequest as refused:
        assert refused.message.startswith("body: ")


WORST = {
    "ones": b'{"prompt":"x","images":[' + b"1," * 4_194_000 + b"1]}",
    "few ones": b'{"prompt":"x","images":[' + b"1," * 9_000 + b"1]}",
    "empty objects": b'{"prompt":"x","images":[' + b"{}," * 2_796_000 + b"{}]}",
    "empty texts": b'["' + b'","' * 2_796_000 + b'"]',
    "names": b"{" + b",".join(b'"a%d":1' % i for i in range(9_000)) + b"}",
    "brackets": b"[" * EIGHT_MB,
    "line ends": b'{"prompt":"' + b"\\n" * 4_194_000 + b'"}',
    "escapes": b'{"prompt":"' + b"\\u00e9xx" * 1_048_000 + b'"}',
    "spaces": b" " * EIGHT_MB,
    "digits": b'{"seed":' + b"1" * 8_388_000 + b"}",
    "a long text": b'{"prompt":"' + b"a" * 8_388_000 + "😀".encode() + b'"}',
    "an image": b'{"prompt":"x","images":["' + base64.b64encode(bytes(6_290_000)) + b'"]}',
}


def check_cost(body: bytes, path: str = "/generate") -> None:
    cost = cost_of_body(path, body)
    assert cost.mebibytes < 56, cost  # a copy of a wide text would take 32 more
    assert cost.seconds < 1, cost  # 0.1 where nothing else runs


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("name", WORST)
def test_no_body_of_eight_megabytes_costs_much(name: str) -> None:
    check_cost(WORST[name])


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("wide", WIDE, ids=lambda body: body.name)
def test_a_text_of_wide_characters_is_not_copied(wide: Body) -> None:
    head, _, body = wide.make().partition(b"\r\n\r\n")
    check_cost(body, head.split()[1].decode())
