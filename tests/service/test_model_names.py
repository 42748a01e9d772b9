import re

import pytest

from service.model_names import ModelNames
from service.settings import SettingError, Settings


def test_the_first_model_is_the_default_and_aliases_are_separated_by_blanks_or_commas() -> None:
    settings = Settings.from_environ({"MODEL": " a  b:7b ", "ALIASES": "x=a, y=B:7B z=a:latest"})
    assert settings.names == ModelNames(("a", "b:7b"), {"x": "a", "y": "b:7b", "z": "a"})
    assert settings.names.told() == "a (also as x, z) and b:7b (also as y)"
    assert settings.names.told(["b:7b"]) == "b:7b (also as y)"


@pytest.mark.parametrize(
    ("name", "meant"),
    [("A", "a"), ("a:latest", "a"), ("library/b:7b", "b:7b"), ("X", "a"), ("x:latest", "a"), ("b", None), ("", None)],
)
def test_a_name_is_read_as_ollama_reads_it(name: str, meant: str | None) -> None:
    assert ModelNames(("a", "b:7b"), {"x": "a"}).meant(name) == meant


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"MODEL": "a b A:latest"}, "MODEL names A:latest twice"),
        ({"MODEL": "a,b"}, "MODEL='a,b' has a comma: separate several models by blanks"),
        ({"MODEL": "a b", "ALIASES": "b=a"}, "ALIASES: b is the name of a served model: choose another alias"),
        ({"MODEL": "a b", "ALIASES": "x=c"}, "ALIASES: x is to mean c, which isn't served: MODEL names a and b"),
        ({"MODEL": "a", "ALIASES": "x=a y=x"}, "ALIASES: y is to mean x, which isn't served"),
        ({"MODEL": "a b", "ALIASES": "x=a,X=b"}, "ALIASES names X twice: name each alias once"),
        ({"MODEL": "a", "ALIASES": "x"}, "ALIASES: 'x' is not ALIAS=MODEL, such as gpt-4o-mini=moondream"),
        ({"MODEL": "a", "ALIASES": "=a"}, "ALIASES: '=a' is not ALIAS=MODEL"),
        ({"MODEL": "a b", "ROLE": "back"}, "ROLE=back serves one model, and MODEL names 2: a and b"),
        ({"MODEL": "a b c", "MAX_IN_FLIGHT": "2"}, "MAX_IN_FLIGHT=2 has no place for each of 3 models: raise it"),
    ],
)
def test_names_that_contradict_each_other_are_refused(variables: dict[str, str], complaint: str) -> None:
    with pytest.raises(SettingError, match=re.escape(complaint)):
        Settings.from_environ(variables)


def test_no_model_is_an_error() -> None:
    with pytest.raises(SettingError, match="MODEL is empty: name a model"):
        Settings(model="  ")


def test_each_model_has_settings_of_its_own_and_an_equal_part_of_a_fronts_places() -> None:
    both = Settings(model="a b", aliases="x=b", max_in_flight=9)
    first, second = both.each_model()
    assert (first.model, first.aliases, first.max_in_flight) == ("a", "", 4)
    assert (second.model, second.aliases, second.max_in_flight) == ("b", "", 4)
    one = Settings(model="a", max_in_flight=9)
    assert one.each_model() == (one,)
