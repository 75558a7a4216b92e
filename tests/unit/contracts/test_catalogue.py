"""Families are found by folder, and finding them is light."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.contracts import Catalogue, FamilyContract, JobContract, Payload, QueueContract, discover
from shared.errors import ContractError, UnknownJobType, UnknownQueue

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ["pandas", "python_calamine", "openai", "sqlalchemy", "dramatiq", "flask", "numpy", "redis", "openpyxl"]


class Input(Payload):
    name: str


def family(name: str, *, queue: str | None = None, job_type: str | None = None) -> FamilyContract:
    queue = queue or name
    return FamilyContract(
        name, (QueueContract(queue),), (JobContract(job_type or f"{name}.run", queue, Input, "demo.handler:run"),)
    )


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Make a package of families out of contracts' source."""

    def make(name: str, **families: str | None) -> str:
        for family_name, source in families.items():
            folder = tmp_path / name / family_name
            folder.mkdir(parents=True)
            (folder / "__init__.py").touch()
            if source is not None:
                (folder / "contract.py").write_text(source)
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / name / "module.py").write_text("raise RuntimeError('only folders are families')")
        return name

    monkeypatch.syspath_prepend(str(tmp_path))
    return make


def source(name: str, folder: str | None = None) -> str:
    return (
        "from shared.contracts import *\n"
        "class Input(Payload):\n    name: str\n"
        f"FAMILY = FamilyContract('{name}', (QueueContract('{name}'),), "
        f"(JobContract('{name}.run', '{name}', Input, 'x:y'),))\n"
    )


def test_every_contract_is_light() -> None:
    """The API lists and validates every job type without what only a worker needs."""
    code = (
        "import sys\n"
        "from shared.contracts import discover\n"
        "catalogue = discover('services.workers.families')\n"
        "for job in catalogue.jobs.values():\n"
        "    job.payload.model_json_schema()\n"
        f"heavy = sorted(set({HEAVY!r}) & set(sys.modules))\n"
        "print(','.join(catalogue.families), '|', ','.join(heavy))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    families, heavy = ran.stdout.strip().split(" | ") if " | " in ran.stdout.strip() else (ran.stdout.strip()[:-2], "")
    folders = {path.parent.name for path in (ROOT / "services/workers/families").glob("*/contract.py")}
    assert set(families.split(",")) == folders
    assert heavy == ""


def test_families_are_found_by_folder(package: Callable[..., str]) -> None:
    catalogue = discover(package("fam_a", beta=source("beta"), alpha=source("alpha")))
    assert list(catalogue.families) == ["alpha", "beta"]
    assert set(catalogue.jobs) == {"alpha.run", "beta.run"}
    assert set(catalogue.queues) == {"alpha", "beta"}


def test_several_packages(package: Callable[..., str]) -> None:
    names = [package("fam_b", one=source("one")), package("fam_c", two=source("two"))]
    assert list(discover(" , ".join(names)).families) == ["one", "two"]
    assert discover("").families == {}


def test_the_same_family_in_two_packages(package: Callable[..., str]) -> None:
    names = [package("fam_d", one=source("one")), package("fam_e", one=source("one"))]
    with pytest.raises(ContractError, match="family 'one' is declared twice, rename one"):
        discover(",".join(names))


@pytest.mark.parametrize(
    ("name", "contract", "message"),
    [
        ("fam_f", None, "folder 'one' in fam_f has no contract.py: add one"),
        ("fam_g", "OTHER = 1\n", r"fam_g.one.contract has no FAMILY = FamilyContract\(...\): add it"),
        ("fam_h", "FAMILY = 'one'\n", "has no FAMILY"),
        ("fam_i", source("two"), "FAMILY is named 'two' but its folder 'one'"),
    ],
)
def test_a_folder_that_is_no_family(package: Callable[..., str], name: str, contract: str | None, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        discover(package(name, one=contract))


def test_a_contract_that_misses_a_module_is_not_taken_for_a_missing_contract(package: Callable[..., str]) -> None:
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        discover(package("fam_j", one="import not_there_at_all\n"))


def test_two_families_claim_the_same() -> None:
    with pytest.raises(ContractError, match=r"job type 'a\.run' is declared by two families"):
        Catalogue({"a": family("a"), "b": family("b", job_type="a.run")})
    with pytest.raises(ContractError, match="queue 'a' is declared by two families"):
        Catalogue({"a": family("a"), "b": family("b", queue="a")})


def test_looking_up() -> None:
    catalogue = Catalogue({"a": family("a"), "b": family("b")})
    assert catalogue.job("a.run").queue == catalogue.queue("a").name == catalogue.family("a").name
    with pytest.raises(UnknownJobType, match=r"no job type 'c\.run'. Types: a\.run, b\.run\."):
        catalogue.job("c.run")
    with pytest.raises(UnknownQueue, match=r"no queue 'c'. Queues: a, b\."):
        catalogue.queue("c")
    with pytest.raises(ContractError, match=r"no family 'c'. Families: a, b, or 'all'\."):
        catalogue.family("c")
