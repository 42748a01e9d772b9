import json

import pytest

from loadtest.scenarios import FILE, read_all


def test_a_mistake_in_a_scenario_is_one_sentence_that_names_it() -> None:
    entry = json.loads(FILE.read_text())["steady"]
    wanted = "an entry has exactly about, loop, stages, start, thresholds"
    for odd, name in ((entry | {"color": 1}, "color"), ({key: entry[key] for key in entry if key != "about"}, "about")):
        with pytest.raises(ValueError, match=f"^mine: {name}: {wanted}$"):
            read_all(json.dumps({"mine": odd}))
    with pytest.raises(ValueError, match=r"^mine: .*'seconds'"):
        read_all(json.dumps({"mine": entry | {"stages": [{"seconds": 1, "load": 1}]}}))
