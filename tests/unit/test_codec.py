import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import pytest

from s5wm.errors import ConfigError
from s5wm.experiments.experiment import Experiment, load_experiment, save_experiment
from s5wm.experiments.presets import preset, presets
from s5wm.runs.codec import decode, differences, encode, override


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True)
class Cat:
    lives: int = 9

    def __post_init__(self) -> None:
        if self.lives < 1:
            raise ValueError(f"cat.lives is {self.lives}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Dog:
    name: str
    speed: float = 1.0


@dataclass(frozen=True, kw_only=True)
class House:
    pet: Cat | Dog = field(default_factory=Cat)
    colour: Colour = Colour.RED
    mode: Literal["a", "b"] = "a"
    size: tuple[float, float] = (1.0, 2.0)
    floors: tuple[int, ...] = (1,)
    rent: float | None = None
    is_old: bool = False
    guest: Cat | None = None


HOUSE = House(
    pet=Dog(name="Rex"), colour=Colour.BLUE, mode="b", size=(3.0, 4.0), floors=(), rent=2.5, is_old=True
)


def test_round_trip_through_json() -> None:
    for house in (House(), HOUSE):
        assert decode(House, json.loads(json.dumps(encode(house))), warn=pytest.fail) == house


@pytest.mark.parametrize("names", presets(), ids=" ".join)
def test_every_preset_survives_its_file(names: tuple[str, str, str], tmp_path) -> None:
    experiment = preset(*names, seed=3)
    save_experiment(tmp_path / "config.json", experiment)
    assert load_experiment(tmp_path / "config.json", warn=pytest.fail) == experiment
    assert json.loads((tmp_path / "config.json").read_text())["task"] == names[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colur": "red"}, "unknown field colur; did you mean 'colour'"),
        ({"colour": "green"}, "colour is 'green'"),
        ({"mode": "c"}, "mode is 'c'"),
        ({"size": [1.0]}, "a list of 2"),
        ({"size": ["x", 1.0]}, r"size\[0\] is 'x'"),
        ({"is_old": 1}, "true or false"),
        ({"rent": "much"}, "rent is 'much'; it must be a number"),
        ({"rent": float("nan")}, "finite"),
        ({"floors": [True]}, "whole number"),
        ({"floors": [1.5]}, "whole number"),
        ({"pet": {"type": "Car"}}, "pet.type is 'Car'; did you mean 'Cat'"),
        ({"pet": {"lives": 3}}, "pet.type is None"),
        ({"pet": {"type": "Dog"}}, "field pet.name is missing"),
        ({"pet": {"type": "Cat", "lives": 0}}, "pet: cat.lives is 0"),
        ({"pet": 3}, "an object with a 'type'"),
        ({"type": "Flat"}, "type is 'Flat'"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        decode(House, encode(House()) | change, warn=lambda _: None)


def test_a_missing_field_takes_its_default_and_says_so() -> None:
    data = encode(HOUSE)
    del data["rent"]
    said: list[str] = []
    assert decode(House, data, warn=said.append).rent is None
    assert said == ["field rent is missing; taking its default"]


def test_overrides() -> None:
    changed = override(
        House(), ["pet.lives=3", "rent=1e3", "colour=blue", "size=[5, 6]", "is_old=true", "floors=[1e1]"]
    )
    assert changed == House(
        pet=Cat(lives=3), rent=1000.0, colour=Colour.BLUE, size=(5.0, 6.0), is_old=True, floors=(10,)
    )
    assert override(HOUSE, ["rent=none", "pet.type=Cat", "pet.lives=2"]).pet == Cat(lives=2)
    assert override(House(), ["guest.type=Cat", "guest.lives=2"]).guest == Cat(lives=2)


def test_overrides_are_checked_together() -> None:
    experiment = override(Experiment(), ["agent.replay.length=100", "agent.replay.capacity=128"])
    assert experiment.agent.replay.length == 100  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("rent", "not of the form"),
        ("=3", "not of the form"),
        ("pet.live=3", "unknown field pet.live; did you mean 'lives'"),
        ("pt.lives=3", "unknown field pt; did you mean 'pet'"),
        ("rent.x=3", "rent is null and has no fields"),
        ("pet.lives=many", "pet.lives is 'many'; it must be a whole number"),
        ("pet.lives=-1", "cat.lives is -1"),
        ("pet.type=Cow", "pet.type is 'Cow'"),
        ("rent=1" + 400 * "0", "it must be a finite number"),
        ("pet.type=Dog", "pet.type is Dog, which needs name: give the whole as pet=JSON"),
    ],
)
def test_overrides_that_make_no_sense(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(House(), [assignment])


def test_differences_are_listed_by_path() -> None:
    lines = differences(encode(House()), encode(override(House(), ["pet.lives=3", "rent=1.0"])))
    assert lines == ["pet.lives: 9 against 3", "rent: null against 1.0"]
    assert differences(encode(House()), encode(HOUSE))[0].startswith("pet: ")
