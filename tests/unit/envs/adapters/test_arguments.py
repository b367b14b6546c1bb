"""``NAME=VALUE`` of the command line."""

import pytest

from s5wm.envs.adapters.arguments import parsed
from s5wm.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("False", False),
        ("false", False),
        ("True", True),
        ("None", None),
        ("null", None),
        ("9.8", 9.8),
        ("1e-3", 1e-3),
        ("[true, 2]", [True, 2]),
        ("[True, None]", [True, None]),
        ("(84, 84)", (84, 84)),
        ("{'wind': False}", {"wind": False}),
        ("fast", "fast"),
        ("Falsehood", "Falsehood"),
        ('"False"', "False"),
        ("(really", "(really"),
        ("[__import__('os')]", "[__import__('os')]"),
        ("a=b", "a=b"),
    ],
)
def test_values_are_those_of_json_and_python(text: str, value: object) -> None:
    given = parsed([f"name={text}"])["name"]
    assert given == value and type(given) is type(value)


def test_what_has_no_name_is_refused() -> None:
    for wrong in ("False", "=1", "two words=1"):
        with pytest.raises(ConfigError, match="not of the form NAME=VALUE"):
            parsed([wrong])
