import json
import subprocess
import sys

import pytest

from finetune.cli.app import main

PROBED = {
    "torch": {
        "version": "2.8.0", "cuda": None, "device": "cpu", "names": ["a processor"], "native_bf16": True,
        "precision": "bf16", "threads": 2, "cpus": 2,
    },
    "meter": {
        "components": [
            {"name": "cpu", "method": "measured", "detail": "RAPL package counter", "low": 0.95, "high": 1.05},
            {"name": "gpu", "method": "absent", "detail": "no GPU was found", "low": 1.0, "high": 1.0},
        ],
        "notes": [],
    },
}  # fmt: skip


@pytest.fixture
def probed(monkeypatch):
    """Let the probe answer at once."""
    monkeypatch.setattr("finetune.doctor.examine.ask_probe", lambda: PROBED)


@pytest.mark.usefixtures("probed")
def test_doctor_prints_a_line_a_check(tmp_path, capsys):
    assert main(["doctor", "--offline", "--country", "BRA", "--output-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["ok", "device", "cpu:", "a", "processor"] for line in lines)
    assert any("measured: RAPL package counter" in line for line in lines)
    assert any("BRA, 98.3 g/kWh" in line for line in lines)
    assert "0 failures" in lines[-1]


@pytest.mark.usefixtures("probed")
def test_doctor_json_holds_the_same_checks(tmp_path, capsys):
    assert main(["doctor", "--json", "--offline", "--country", "BRA", "--output-dir", str(tmp_path)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["healthy"] is True
    names = [check["name"] for check in report["checks"]]
    assert len(set(names)) == len(names)
    assert {"python", "device", "energy of cpu", "carbon intensity", "hub", "hub token", "cache"} <= set(names)


@pytest.mark.usefixtures("probed")
def test_doctor_exits_1_after_a_failure(tmp_path, capsys):
    assert main(["doctor", "--offline", "--country", "XXX", "--output-dir", str(tmp_path)]) == 1
    assert "1 failure" in capsys.readouterr().out


def test_doctor_leaves_torch_and_codecarbon_to_its_probe(tmp_path):
    (tmp_path / "torch.py").write_text("raise RuntimeError('a file of the user, not torch')\n")
    code = (
        "import sys\n"
        "from finetune.cli.app import main\n"
        "code = main(['doctor', '--json', '--offline', '--country', 'BRA'])\n"
        "heavy = {'torch', 'transformers', 'datasets', 'accelerate', 'codecarbon', 'evaluate'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.strip().splitlines()[-1] == "[]"
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["device"]["found"].partition(":")[0] in ("cpu", "cuda", "mps")
    assert checks["energy of ram"]["found"].startswith("assumed: memory constant")
