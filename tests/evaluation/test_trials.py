"""Trial lists: their forms, and the rows that are left out."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from audionet.errors import DatasetError
from audionet.evaluation.trials import TrialList, read_trials


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four recordings of two speakers."""
    for name in ("id1/x/1.wav", "id1/y/2.wav", "id2/x/1.wav", "id2/y 3.wav"):
        path = tmp_path / "audio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "audio"


def read(folder: Path, text: str | bytes, name: str = "list.txt", table: str | None = None) -> TrialList:
    path = folder.parent / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    enrolments = None
    if table is not None:
        enrolments = folder.parent / "models.csv"
        enrolments.write_text(table, "utf-8")
    return read_trials(path, folder, enrolments)


def rows(found: TrialList) -> list[tuple[str, str, bool]]:
    models, tests = found.pairs.first.tolist(), found.pairs.second.tolist()
    return [
        (found.models[a], found.recordings[b], target)
        for a, b, target in zip(models, tests, found.pairs.target.tolist(), strict=True)
    ]


def enrolled(found: TrialList, model: str) -> list[str]:
    numbers = found.enrolled_recording[found.enrolled_model == found.models.index(model)]
    return [found.recordings[number] for number in numbers.tolist()]


EXPECTED = [("id1/x/1.wav", "id1/y/2.wav", True), ("id1/x/1.wav", "id2/x/1.wav", False)]


@pytest.mark.parametrize(
    "text",
    [
        "1 id1/x/1.wav id1/y/2.wav\n0 id1/x/1.wav id2/x/1.wav\n",
        "1 id1/x/1.wav id1/y/2.wav\r\n\r\n0 id1/x/1.wav id2/x/1.wav",
        "id1/x/1.wav id1/y/2.wav target\nid1/x/1.wav id2/x/1.wav nontarget\n",
        "enrol,test,label\nid1/x/1.wav,id1/y/2.wav,1\nid1/x/1.wav,id2/x/1.wav,0\n",
        "Test;Label;Enroll\nid1/y/2.wav;Target;id1/x/1.wav\nid2/x/1.wav;Imp;id1/x/1.wav\n",
        "1\tid1/x/1.wav\tid1/y/2.wav\n0\tid1/x/1.wav\tid2/x/1.wav\n",
        '"id1/x/1.wav","id1/y/2.wav",1\n"id1/x/1.wav","id2/x/1.wav",0\n',
        "\ufeff1 id1/x/1.wav id1/y/2.wav\n0 id1/x/1.wav id2/x/1.wav\n",
    ],
)
def test_every_form_gives_the_same_trials(folder: Path, text: str) -> None:
    found = read(folder, text)
    assert rows(found) == EXPECTED
    assert (found.targets, found.nontargets, found.left_out) == (1, 1, {})


def test_other_encodings_and_windows_paths_are_read(folder: Path) -> None:
    (folder / "id1" / "é.wav").touch()
    text = "1 id1\\é.wav id1\\y\\2.wav\r\n0 id1\\é.wav id2\\x\\1\r\n"
    for encoding in ("utf-16", "cp1252", "utf-8"):
        assert rows(read(folder, text.encode(encoding))) == [
            ("id1\\é.wav", "id1/y/2.wav", True),
            ("id1\\é.wav", "id2/x/1.wav", False),
        ]


def test_models_of_several_files_come_from_repeated_rows_or_a_table(folder: Path) -> None:
    listed = (
        "model,enrol,test,label\nann,id1/x/1.wav,id2/x/1.wav,0\nann,id1/y/2.wav,id2/x/1.wav,0\n"
        "bob,id2/x/1.wav,id2/y 3.wav,1\n"
    )
    found = read(folder, listed, "list.csv")
    assert rows(found) == [("ann", "id2/x/1.wav", False), ("bob", "id2/y 3.wav", True)]
    assert found.left_out == {}
    nist = read(
        folder,
        "modelid\tsegmentid\ttargettype\nann\tid2/x/1.wav\tnontarget\n",
        table="model,file\nann,id1/x/1\nann,id1/y/2.wav\n",
    )
    kaldi = read(folder, "ann id2/x/1.wav nontarget\n", table="ann id1/x/1.wav id1/y/2.wav\n")
    for one in (found, nist, kaldi):
        assert enrolled(one, "ann") == ["id1/x/1.wav", "id1/y/2.wav"]
        assert one.counts()[one.models.index("ann")] == 2
    assert rows(nist) == rows(kaldi) == [("ann", "id2/x/1.wav", False)]


def test_rows_that_cannot_be_used_are_left_out_and_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = """1 id1/x/1.wav id1/y/2.wav
1 id1/x/1.wav id1/y/2.wav
yes id1/x/1.wav id1/y/2.wav
1 id1/x/1.wav
0 id1/x/1.wav id2/y 3.wav
0 id1/x/1.wav nowhere.wav
0 gone.wav id2/x/1.wav
1 id1/x/1.wav id1\\x\\1.wav
0 id1/x/1.wav id2/x/1.wav
1 id1/x/1.wav id2/x/1.wav
"""
    with caplog.at_level(logging.WARNING):
        found = read(folder, text)
    assert rows(found) == EXPECTED[:1]
    assert found.left_out == {
        "malformed": 3,
        "repeated": 1,
        "with a missing recording": 2,
        "with one recording on both sides": 1,
        "contradictory": 2,
    }
    for words in (
        "list.txt:3: has the label 'yes': it must be 1 or 0",
        "list.txt:4: has 2 columns, not 3; left out",
        "list.txt:5: has 4 columns, not 3; names with blanks need CSV",
        "names nowhere.wav, which is not in",
        "names gone.wav, which is not in",
        "9 rows left out: 3 malformed, ",
    ):
        assert words in caplog.text


@pytest.mark.parametrize("text", ["", "\n", "1 a.wav b.wav\n", "words\n", "0 id1/x/1.wav id1/x/1.wav\n"])
def test_a_list_without_trials_is_one_clear_error(folder: Path, text: str) -> None:
    with pytest.raises(DatasetError, match=r"list\.txt: no trial is left: rows are '1 enrol\.wav test\.wav'") as error:
        read(folder, text)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read_are_named(folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"missing\.txt: cannot be read"):
        read_trials(folder / "missing.txt", folder)
    with pytest.raises(DatasetError, match=r"list\.txt: is no text file"):
        read(folder, b"RIFF\0\0\0\0\n")
    with pytest.raises(DatasetError, match=r"list\.txt: is no table"):
        read(folder, "1,a.wav,b.wav\n" + 200_000 * "x")
    with pytest.raises(DatasetError, match=r"models\.csv:2: has 1 column: a model and a file"):
        read(folder, "1 ann id1/y/2.wav\n", table="ann id1/x/1.wav\nbob\n")
    with pytest.raises(DatasetError, match="is not a folder: audio_dir"):
        read_trials(folder / "missing.txt", folder / "nowhere")


def test_trials_of_unusable_recordings_are_left_out(folder: Path) -> None:
    found = read(folder, "1 id1/x/1.wav id1/y/2.wav\n0 id1/x/1.wav id2/x/1.wav\n")
    usable = np.array([name != "id2/x/1.wav" for name in found.recordings])
    left = found.restricted(usable)
    assert rows(left) == EXPECTED[:1]
    assert left.left_out == {"with an unusable recording": 1}
    with pytest.raises(DatasetError, match="no trial is left"):
        found.restricted(np.array([name != "id1/x/1.wav" for name in found.recordings]))
