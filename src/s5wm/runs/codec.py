"""Typed configurations to JSON and back, and dotted overrides; nothing in a file is ever run.

A configuration is a tree of frozen dataclasses.  In JSON each becomes an object whose ``"type"`` is the class
name, which selects the member of a union.
"""

import dataclasses
import difflib
import enum
import json
import math
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from s5wm.errors import ConfigError
from s5wm.runs.datafile import read_data
from s5wm.runs.renamed import class_name, hint

Config = TypeVar("Config")
Warn = Callable[[str], None]

TAG = "type"

LATER = "since"
"""In the metadata of a field: added later; files without the field mean its default."""

FILE = "file:"
"""An override ``path=file:PATH`` takes what a JSON or YAML file holds."""


def encode(value: Any) -> Any:
    """A configuration as JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {TAG: type(value).__name__} | fields
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    return value


def decode(kind: type[Config], data: Any, *, warn: Warn) -> Config:
    """Decode ``data`` as a configuration of class ``kind``.

    An unknown field, a wrong type, and a missing field without default are errors that name it.  A missing
    field that has a default takes it, with a line to ``warn``, unless its metadata has ``since``: then its default
    means what files of before meant.
    """
    return _decode(kind, data, "", warn)


def override(config: Config, assignments: Sequence[str]) -> Config:
    """``config`` with ``path.to.field=value`` applied, all at once, and checked like a fresh one.

    ``path.type=ClassName`` chooses another member of a union, with its defaults.  Values are JSON, bare words for
    strings, or ``file:PATH`` for what a JSON or YAML file holds.
    """
    data = encode(config)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise ConfigError(
                f"override {assignment!r} is not of the form path.to.field=value, e.g. train.num_envs=64"
            )
        _assign(type(config), data, path.strip().split("."), text.strip())
    return _decode(type(config), data, "", lambda _: None)


def differences(left: Any, right: Any, path: str = "") -> list[str]:
    """Where two encoded configurations differ, one readable line each."""
    if isinstance(left, Mapping) and isinstance(right, Mapping) and left.get(TAG) == right.get(TAG):
        names = list(dict.fromkeys([*left, *right]))
        found = [differences(left.get(n), right.get(n), f"{path}.{n}".lstrip(".")) for n in names]
        return [line for lines in found for line in lines]
    return [] if left == right else [f"{path}: {_short(left)} against {_short(right)}"]


def unstorable(encoded: Any, path: str = "") -> str | None:
    """The first value of an encoded configuration that JSON has no exact form for, None if there is none."""
    if isinstance(encoded, Mapping):
        found = (unstorable(value, _join(path, str(name))) for name, value in encoded.items())
    elif isinstance(encoded, list):
        found = (unstorable(value, f"{path}[{index}]") for index, value in enumerate(encoded))
    elif encoded is None or isinstance(encoded, bool | int | str | float):
        return f"{path} is {encoded}" if isinstance(encoded, float) and not math.isfinite(encoded) else None
    else:
        return f"{path} is {encoded!r}, a {type(encoded).__name__}"
    return next((text for text in found if text is not None), None)


def suggest(word: str, known: Sequence[str]) -> str:
    """``; did you mean 'x'?`` if a known name is similar to ``word``, then all known names."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"{hint} Known: {', '.join(known)}"


def _decode(kind: Any, data: Any, path: str, warn: Warn) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _decode_union(get_args(kind), data, path, warn)
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, data, path, warn)
    if origin is Literal:
        return _choice(data, get_args(kind), path)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(_choice(data, tuple(member.value for member in kind), path))
    if origin is tuple:
        return _decode_tuple(get_args(kind), data, path, warn)
    return _decode_number_or_text(kind, data, path)


def _decode_dataclass(kind: Any, data: Any, path: str, warn: Warn) -> Any:
    if not isinstance(data, Mapping):
        raise _wrong(path, data, f"an object with the fields of {kind.__name__}")
    tag = data.get(TAG, kind.__name__)
    if tag != kind.__name__:
        raise _wrong(f"{path}.{TAG}".lstrip("."), tag, repr(kind.__name__))
    names = [field.name for field in dataclasses.fields(kind)]
    for name in data:
        if name != TAG and name not in names:
            raise _unknown(kind, path, name, names)
    values = _decode_fields(kind, data, path, warn)
    try:
        return kind(**values)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{path}: {error}" if path else str(error)) from error


def _decode_fields(kind: Any, data: Mapping[str, Any], path: str, warn: Warn) -> dict[str, Any]:
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        where = _join(path, field.name)
        if field.name in data:
            values[field.name] = _decode(hints[field.name], data[field.name], where, warn)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"field {where} is missing; add it")
        elif LATER not in field.metadata:
            warn(f"field {where} is missing; taking its default")
    return values


def _decode_union(members: tuple[Any, ...], data: Any, path: str, warn: Warn) -> Any:
    if data is None and type(None) in members:
        return None
    classes: list[Any] = [m for m in members if dataclasses.is_dataclass(m)]
    if classes:
        if not isinstance(data, Mapping):
            names = ", ".join(c.__name__ for c in classes)
            raise _wrong(path, data, f"an object with a 'type' of {names}; an override may give file:PATH")
        return _decode_dataclass(_member(classes, data.get(TAG), path), data, path, warn)
    plain = [m for m in members if m is not type(None)]
    if len(plain) != 1:
        raise TypeError(f"{path}: unions of {members} are not supported in configurations")
    return _decode(plain[0], data, path, warn)


def _member(classes: list[Any], tag: Any, path: str) -> Any:
    names, tag = [c.__name__ for c in classes], class_name(tag)
    if tag is None and len(classes) == 1:
        return classes[0]
    if tag not in names:
        raise ConfigError(f"{_join(path, TAG)} is {tag!r}{suggest(str(tag), names)}")
    return classes[names.index(tag)]


def _decode_tuple(items: tuple[Any, ...], data: Any, path: str, warn: Warn) -> tuple[Any, ...]:
    if not isinstance(data, list | tuple):
        raise _wrong(path, data, "a list")
    values: list[Any] = list(data)
    kinds = [items[0]] * len(values) if items[1:] == (Ellipsis,) else list(items)
    if len(kinds) != len(values):
        raise _wrong(path, data, f"a list of {len(kinds)}")
    return tuple(
        _decode(k, v, f"{path}[{i}]", warn) for i, (k, v) in enumerate(zip(kinds, values, strict=True))
    )


def _decode_number_or_text(kind: Any, data: Any, path: str) -> Any:
    if kind is float and isinstance(data, int | float) and not isinstance(data, bool):
        try:
            value = float(data)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise _wrong(path, data, "a finite number")
        return value
    if kind is int and isinstance(data, float) and data.is_integer():
        return int(data)  # 1e6 is how people write a million
    if kind in (int, str, bool) and type(data) is kind:
        return data
    if kind in (int, float, str, bool):
        raise _wrong(
            path, data, {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[kind]
        )
    raise TypeError(f"{path}: fields of type {kind} are not supported in configurations")


def _choice(data: Any, choices: tuple[Any, ...], path: str) -> Any:
    if data not in choices:
        raise ConfigError(f"{path} is {data!r}" + suggest(str(data), [str(c) for c in choices]))
    return data


def _assign(kind: Any, data: Any, path: list[str], text: str) -> None:
    """Sets one value inside encoded ``data``, whose fields are known to be complete."""
    for depth, name in enumerate(path[:-1]):
        here = ".".join(path[:depth])
        kind = _field_kind(kind, data, name, here)
        if data[name] is None and path[depth + 1 :] == [TAG]:
            place = _join(here, name)
            data[name] = encode(_default(_member(_classes(kind), text, place), place))
            return
        if not isinstance(data[name], dict):
            raise ConfigError(f"{_join(here, name)} is {_short(data[name])} and has no fields")
        data = data[name]
    here, name = ".".join(path[:-1]), path[-1]
    if name == TAG:
        fresh = encode(_default(_member(_classes(kind), text, here), here))
        data.clear()
        data.update(fresh)
        return
    kind = _field_kind(kind, data, name, here)
    if text.startswith(FILE) and _classes(kind):
        data[name] = _from_file(kind, Path(text.removeprefix(FILE)), _join(here, name))
    else:
        data[name] = _parse(text)


def _from_file(kind: Any, file: Path, path: str) -> Any:
    """Value of a field from a file, complete, so that the run does not need the file any more.

    Where the file has no ``"type"``, it is of the member that shares most fields with it.
    """
    try:
        data = read_data(file)
        if TAG not in data:
            likely = max(
                _classes(kind), key=lambda c: len(data.keys() & {f.name for f in dataclasses.fields(c)})
            )
            data = {TAG: likely.__name__} | data
        return encode(_decode(kind, data, path, lambda _: None))
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def _field_kind(kind: Any, data: Mapping[str, Any], name: str, path: str) -> Any:
    owner = _member(_classes(kind), data[TAG], path)
    hints = get_type_hints(owner)
    if name not in hints:
        raise _unknown(owner, path, name, list(hints))
    return hints[name]


def _classes(kind: Any) -> list[Any]:
    members = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return [m for m in members if dataclasses.is_dataclass(m)]


def _default(kind: Any, path: str) -> Any:
    try:
        return kind()
    except TypeError as error:
        needed = [f.name for f in dataclasses.fields(kind) if _is_needed(f)]
        raise ConfigError(
            f"{path}.{TAG} is {kind.__name__}, which needs {', '.join(needed)}: give the whole as {path}=JSON"
        ) from error


def _is_needed(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _parse(text: str) -> Any:
    words = {"none": None, "None": None, "True": True, "False": False}
    try:
        return words[text] if text in words else json.loads(text)
    except json.JSONDecodeError:
        return text


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _unknown(kind: Any, path: str, name: str, known: Sequence[str]) -> ConfigError:
    return ConfigError(f"unknown field {_join(path, name)}{hint(kind.__name__, name)}" + suggest(name, known))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _wrong(path: str, data: Any, rule: str) -> ConfigError:
    return ConfigError(f"{path or 'the configuration'} is {data!r}; it must be {rule}")
