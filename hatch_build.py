"""Put real files into wheels and source archives where a bundle of the checkout has a link to a shared folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class SharedFolders(BuildHookInterface):
    """Include each linked folder by itself: hatchling follows only the first of several links to one folder."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the folders and where they go."""
        root = Path(self.root)
        target = "vafa_monai/" if self.target_name == "wheel" and version != "editable" else ""
        for path in sorted((root / "bundles").glob("*/configs/*/")):
            name = path.relative_to(root).as_posix()
            build_data["force_include"][str(path)] = f"{target}{name}"
