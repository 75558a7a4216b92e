"""The house keeps its own rules: locked requirements, documented settings, a Procfile that names what exists."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
from pathlib import Path

import pytest
from honcho.environ import parse_procfile
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.dev.environment import load_dotenv
from shared.config import FamilySettings, Settings

ROOT = Path(__file__).resolve().parents[2]
INPUTS = sorted(
    path
    for path in ROOT.rglob("requirements*.in")
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
LOCKED = [path.with_suffix(".txt") for path in INPUTS]
#: locked by themselves, apart from the constraints: what is only measured must not hold back what is run
MEASURED = [path for path in LOCKED if path.parent == ROOT / "bench"]
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def asked_for(path: Path) -> list[Requirement]:
    """What a .in file asks for, with the files that it includes."""
    found = []
    for line in path.read_text().splitlines():
        text = line.partition("#")[0].strip()
        if text.startswith("-r "):
            found += asked_for(path.parent / text.removeprefix("-r ").strip())
        elif text:
            found.append(Requirement(text))
    return found


def pins(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Name -> (version, rest of the entry) of a compiled file; a name has several entries when markers differ."""
    joined = path.read_text().replace("\\\n", " ")
    found: dict[str, list[tuple[str, str]]] = {}
    for line in joined.splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)(.*)", line):
            found.setdefault(canonicalize_name(match[1]), []).append((match[2], match[3]))
    return found


def test_every_service_and_family_has_requirements() -> None:
    services = [ROOT / "shared", ROOT / "services" / "api"]
    families = [path.parent for path in (ROOT / "services" / "workers" / "families").glob("*/contract.py")]
    assert {path.parent for path in INPUTS} == {ROOT, ROOT / "bench", *services, *families}


@pytest.mark.parametrize("path", INPUTS, ids=named)
def test_lock_answers_what_is_asked_for(path: Path) -> None:
    locked = pins(path.with_suffix(".txt"))
    for requirement in asked_for(path):
        versions = [version for version, _ in locked.get(canonicalize_name(requirement.name), [])]
        assert versions, f"{requirement} is not locked: make lock"
        assert all(map(requirement.specifier.contains, versions)), f"{requirement} is locked at {versions}: make lock"


@pytest.mark.parametrize("path", LOCKED, ids=named)
def test_every_pin_has_a_hash_and_the_version_of_the_constraints(path: Path) -> None:
    constraints = pins(ROOT / "constraints.txt")
    for name, entries in pins(path).items():
        assert all(HASH.search(rest) for _, rest in entries), f"{name} has no hash"
        if path not in MEASURED:
            assert {version for version, _ in entries} <= {version for version, _ in constraints[name]}
        for _, rest in entries:
            if ";" in rest:
                Marker(rest.partition(";")[2].partition("--hash")[0].strip())


@pytest.mark.parametrize("path", [*LOCKED, ROOT / "constraints.txt"], ids=named)
def test_locks_name_no_index_and_no_place(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|-e|--index|--extra-index|--find-links|--trusted-host)", text, re.MULTILINE)
    assert not re.search(r"[\s@]/[a-z]", text), "an absolute path"


def test_example_environment_documents_every_setting() -> None:
    documented = set(re.findall(r"^#?([A-Z][A-Z0-9_]*)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    read = {str(field.validation_alias) for field in Settings.model_fields.values()}
    for path in (ROOT / "services" / "workers" / "families").glob("*/settings.py"):
        importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for family in FamilySettings.__subclasses__():
        read |= {f"{family.model_config['env_prefix']}{name}".upper() for name in family.model_fields}
    assert documented - {"CALLBOARD_WORKER_THREADS"} == read


def test_dotenv_yields_to_the_shell_and_takes_values_as_they_stand(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=9000\nREDIS_PASSWORD='a$b # c'\n# a comment\nCALLBOARD_HOST=0.0.0.0\n")
    environ = {"PORT": "9001"}
    load_dotenv(tmp_path, environ)
    assert environ == {"PORT": "9001", "REDIS_PASSWORD": "a$b # c", "CALLBOARD_HOST": "0.0.0.0"}


def test_procfile_starts_modules_that_exist() -> None:
    processes = parse_procfile((ROOT / "Procfile").read_text()).processes
    assert list(processes) == ["valkey", "api", "worker", "welcome"]
    assert all(command.startswith("exec ") for command in processes.values())
    modules = re.findall(r"\b((?:deploy|services)(?:\.\w+)+)", " ".join(processes.values()))
    for module in modules:
        assert ROOT.joinpath(*module.split(".")).with_suffix(".py").is_file(), module
    assert len(modules) == len(processes)


def make(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory", *arguments],
        env={**os.environ, "MAKEFLAGS": "", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_make_run_starts_the_supervisor() -> None:
    ran = make("--dry-run", "run")
    assert ran.returncode == 0, ran.stderr
    assert "-m deploy.dev.run" in ran.stdout


def test_make_help_lists_every_command() -> None:
    ran = make("help")
    phony = re.findall(r"^\.PHONY: (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert ran.returncode == 0
    assert re.findall(r"^ +make (\S+)", ran.stdout, re.MULTILINE) == phony


@pytest.mark.parametrize(
    ("python", "complaint"),
    [
        ("", "needs Python 3.11 or newer"),
        ("false", "needs Python 3.11 or newer"),
    ],
    ids=["none", "too-old"],
)
def test_make_says_when_there_is_no_python(python: str, complaint: str, tmp_path: Path) -> None:
    ran = make(f"VENV={tmp_path / 'venv'}", f"PYTHON={python}", "run")
    assert ran.returncode != 0
    assert complaint in ran.stderr
    assert "make PYTHON=" in ran.stderr or python
