"""Tracks and drones of your own, from files."""

from pathlib import Path
from typing import TypeVar

from s5wm.envs.quadrotor.params import QuadConfig
from s5wm.envs.racing.track import FileTrackConfig
from s5wm.errors import ConfigError
from s5wm.runs.codec import decode
from s5wm.runs.datafile import read_data

Config = TypeVar("Config")


def load_track(file: str | Path) -> FileTrackConfig:
    """The track that a JSON or YAML file describes; its fields are those of ``FileTrackConfig``.

    Raises ``ConfigError`` with file, field and rule where it describes none.  Whether it can be flown is checked by
    ``s5wm check-track``, and by ``RacingConfig(track=...)``.
    """
    return _load(FileTrackConfig, Path(file))


def load_quad(file: str | Path) -> QuadConfig:
    """The quadrotor that a file describes; its fields are those of ``QuadConfig``."""
    return _load(QuadConfig, Path(file))


def _load(kind: type[Config], file: Path) -> Config:
    try:
        return decode(kind, read_data(file), warn=lambda _: None)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
