"""The environment of a checkout: what the caller set, else what ``.env`` says."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

from dotenv import dotenv_values

ROOT = Path(__file__).resolve().parents[2]


def load_dotenv(root: Path = ROOT, environ: MutableMapping[str, str] = os.environ) -> None:
    """Fill in from ``.env`` what the caller did not set; ``PORT=8001 make run`` wins over the file.

    Values are taken as they stand, without interpolation: a password may hold a dollar sign.
    """
    for name, value in dotenv_values(root / ".env", interpolate=False).items():
        if value is not None:
            environ.setdefault(name, value)
