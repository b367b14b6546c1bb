"""One export, which several modules look at."""

from pathlib import Path

import pytest

from s5wm.deploy.export import Exported, export


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Exported:
    """The Split-S policy."""
    pytest.importorskip("onnxruntime")
    folder: Path = tmp_path_factory.mktemp("export") / "split-s"
    return export("pretrained/split-s", folder, which="best", log=lambda _: None)
