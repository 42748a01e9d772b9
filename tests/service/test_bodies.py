"""What people send that isn't quite JSON, at every route that takes a body."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.json_input import BYTE_ORDER_MARK
from tests.support.requests import GOOD

FORM = b'--------------------------d74496d66958873e\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nhi\r\n'


def told(reply: Any) -> str:
    """Return all that an error says, in whichever form."""
    return json.dumps(reply.json)


@pytest.mark.parametrize("path", GOOD)
@pytest.mark.parametrize(
    ("body", "content_type", "complaint"),
    [
        (FORM, "multipart/form-data; boundary=------------------------d74496d66958873e", "is a multipart form"),
        (b"prompt=hi", "application/x-www-form-urlencoded", "looks like a web form"),
        (b"model=a&prompt=hi", "application/json", "looks like a web form"),
        (b"", "application/json", "is empty"),
    ],
)
def test_a_form_is_told_the_line_to_send(
    client: FlaskClient, path: str, body: bytes, content_type: str, complaint: str
) -> None:
    reply = client.post(path, data=body, content_type=content_type)
    assert reply.status_code == 400
    assert complaint in told(reply)
    assert told(reply).count("send JSON") == told(reply).count(f'send JSON, such as: curl \\"$URL{path}\\" -d ') > 0


@pytest.mark.parametrize("path", GOOD)
def test_json_may_begin_with_a_byte_order_mark_and_needs_no_content_type(client: FlaskClient, path: str) -> None:
    reply = client.post(path, data=BYTE_ORDER_MARK + json.dumps(GOOD[path]).encode(), content_type="text/plain")
    assert reply.status_code == 200
