"""The demo, cut small: everything it promises is there, and it never touches what is not its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from umecache.cli.app import run
from umecache.cli.demo import findings

SMALL = ["demo", "--images", "100", "--seeds", "0,", "--epochs", "1"]


def test_the_whole_job_cut_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert run([*SMALL, "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    methods = [row["method"] for row in document["rows"]]
    assert {"text-only", "image-only", "concat", "product", "attention", "evc", "ume"} <= set(methods)
    assert all(0 <= row["mean"] <= 100 for row in document["rows"])
    report = Path(document["report"]).read_text(encoding="utf-8")
    assert all(method in report for method in methods)
    assert all(line in report for line in document["findings"])
    for picture in (document["plot"], document["examples"]):
        with Image.open(picture) as image:
            assert min(image.size) > 200
            assert len(image.convert("RGB").getcolors(1 << 24) or ()) > 10  # something is drawn
    assert [store["split"] for store in document["stores"]] == ["train", "val"] * 2

    # Again: the data and the stores are used as they are, and words name the files.
    assert run([*SMALL, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "already" in said.err
    assert str(out / "report.md") in said.out


def test_a_folder_with_other_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    assert run([*SMALL, "--out", str(tmp_path)]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("argv", [["--images", "3"], ["--seeds", "x"], ["--epochs", "0"]])
def test_sizes_that_make_no_sense(argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--out", str(tmp_path / "demo"), *argv]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_findings_say_what_the_table_says() -> None:
    def table(**means: float) -> dict[str, Any]:
        return {"rows": [{"method": name.replace("_", "-"), "mean": mean, "std": 1.0} for name, mean in means.items()]}

    clear = findings(table(text_only=40.0, image_only=30.0, concat=50.0, ume=60.0))
    assert "Best control: text-only, 40.0 %" in clear[0]
    assert "2 of 2 fusion methods, from concat (50.0 %) to ume (60.0 %)" in clear[1]
    mixed = findings(table(text_only=40.0, image_only=30.0, concat=41.0, ume=60.0))
    assert "ume; not concat" in mixed[1]
    assert "no fusion method" in findings(table(text_only=40.0, concat=30.0))[1]
