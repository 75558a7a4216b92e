"""What ``./callboard`` runs: the command line, with the settings that ``make run`` in this checkout has."""

from __future__ import annotations

import os
import sys

from deploy.dev.environment import ROOT, load_dotenv


def main() -> int:
    """Run the command line against this checkout, from whatever directory it is called."""
    typed = "CALLBOARD_DATA_DIR" in os.environ
    load_dotenv()
    if not typed:
        # A relative folder in .env, and the default, mean the checkout's; one that was typed means the caller's.
        os.environ["CALLBOARD_DATA_DIR"] = str(ROOT / os.environ.get("CALLBOARD_DATA_DIR", ".data"))
    from shared.cli import main as callboard  # reads the environment, so only after .env

    return callboard()


if __name__ == "__main__":
    sys.exit(main())
