"""Files in a folder: whole or not there at all, and nowhere else."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from shared.errors import FileNotStored, FileTooLarge
from shared.storage import LocalStorage

UNKNOWN = "file_01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def storage(root: Path) -> LocalStorage:
    return LocalStorage(root)


def visible(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if not path.name.startswith("."))


class Broken(io.RawIOBase):
    """An upload whose sender goes away."""

    def __init__(self) -> None:
        self._left = 3

    def read(self, size: int = -1) -> bytes:
        self._left -= 1
        if self._left == 0:
            raise ConnectionResetError
        return b"x" * 10


def test_a_file_comes_back_as_it_was(storage: LocalStorage) -> None:
    content = bytes(range(256)) * 5_000
    stored = storage.save(io.BytesIO(content), name="größe.xlsx", content_type="application/x-test")
    assert (stored.name, stored.size_bytes, stored.content_type) == ("größe.xlsx", len(content), "application/x-test")
    assert stored.sha256 == hashlib.sha256(content).hexdigest()
    assert storage.stat(stored.id) == stored
    with storage.open(stored.id) as file:
        assert file.seek(10) == 10
        assert file.read() == content[10:]
    assert storage.local_path(stored.id).read_bytes() == content


def test_an_empty_file(storage: LocalStorage) -> None:
    stored = storage.save(io.BytesIO(), name="")
    assert (stored.size_bytes, stored.name) == (0, "unnamed")
    assert storage.local_path(stored.id).read_bytes() == b""


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\book.xlsx", "book.xlsx"),
        ("/", "unnamed"),
        ("a" * 300, "a" * 255),
    ],
)
def test_a_name_keeps_no_folder(storage: LocalStorage, root: Path, given: str, kept: str) -> None:
    assert storage.save(io.BytesIO(b"x"), name=given).name == kept
    assert [path.name for path in root.parent.iterdir()] == ["files"]


@pytest.mark.parametrize("size", [0, 9, 10])
def test_a_file_up_to_the_limit(storage: LocalStorage, size: int) -> None:
    assert storage.save(io.BytesIO(b"x" * size), name="a", limit_bytes=10).size_bytes == size


def test_a_file_over_the_limit_leaves_nothing(storage: LocalStorage, root: Path) -> None:
    with pytest.raises(FileTooLarge, match="limit of 10 bytes") as caught:
        storage.save(io.BytesIO(b"x" * 11), name="a", limit_bytes=10)
    assert caught.value.extra["limit_bytes"] == 10
    assert list(root.iterdir()) == []


def test_a_long_stream_is_cut_off_early(storage: LocalStorage) -> None:
    source = io.BytesIO(b"x" * 10_000_000)
    with pytest.raises(FileTooLarge):
        storage.save(source, name="a", limit_bytes=1_000)
    assert source.tell() < 1_000_000, "it was not read to its end to find that out"


def test_an_upload_that_breaks_off_leaves_nothing(storage: LocalStorage, root: Path) -> None:
    with pytest.raises(ConnectionResetError):
        storage.save(Broken(), name="a")  # type: ignore[arg-type]
    assert list(root.iterdir()) == []


def test_a_file_appears_only_when_it_is_whole(storage: LocalStorage, root: Path) -> None:
    with storage.writer(name="a") as writer:
        writer.write(b"half")
        assert visible(root) == []
        stored = writer.commit()
        assert visible(root) == [stored.id]
    assert visible(root) == [stored.id]
    assert {path.name for path in (root / stored.id).iterdir()} == {"content", "meta.json"}
    assert list(root.glob(".part-*")) == []


def test_a_writer_without_a_commit_leaves_nothing(storage: LocalStorage, root: Path) -> None:
    with storage.writer(name="a") as writer:
        writer.write(b"half")
    assert list(root.iterdir()) == []


def test_others_on_the_machine_cannot_read(storage: LocalStorage, root: Path) -> None:
    stored = storage.save(io.BytesIO(b"x"), name="a")
    assert {path.stat().st_mode & 0o077 for path in (root, root / stored.id)} == {0}


def test_deleting(storage: LocalStorage, root: Path) -> None:
    stored = storage.save(io.BytesIO(b"x"), name="a")
    other = storage.save(io.BytesIO(b"y"), name="b")
    storage.delete(stored.id)
    storage.delete(stored.id)
    assert visible(root) == [other.id]
    with pytest.raises(FileNotStored, match="upload it first"):
        storage.stat(stored.id)


@pytest.mark.parametrize("method", ["stat", "open", "local_path"])
def test_a_file_that_is_not_there(storage: LocalStorage, method: str) -> None:
    with pytest.raises(FileNotStored, match=UNKNOWN):
        getattr(storage, method)(UNKNOWN)


@pytest.mark.parametrize("method", ["stat", "open", "local_path", "delete"])
@pytest.mark.parametrize(
    "file_id",
    ["", ".", "..", "../secret", "/etc", f"{UNKNOWN}/..", f"../files/{UNKNOWN}", f"{UNKNOWN}\n", UNKNOWN.lower(),
     f"{UNKNOWN}\0", "file_" + "é" * 26],
)  # fmt: skip
def test_what_is_no_id_never_becomes_a_path(storage: LocalStorage, root: Path, method: str, file_id: str) -> None:
    secret = root.parent / "secret"
    secret.mkdir()
    (secret / "meta.json").write_text("{}")
    with pytest.raises(FileNotStored, match="is not a file id"):
        getattr(storage, method)(file_id)
    assert (secret / "meta.json").exists()
