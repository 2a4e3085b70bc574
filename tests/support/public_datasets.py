"""Public datasets in small: archives of the same shape, and the rows of labels that belong to them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from audionet.data.named_datasets import DATASETS, Archive, NamedDataset
from tests.support.archives import sound, write_archive

Row = tuple[str, str, str, str]


@dataclass(frozen=True)
class Shape:
    """Files of a small dataset by their paths in its archive, and the rows of its tables."""

    files: dict[str, bytes]
    rows: dict[str, list[Row]]

    @property
    def recordings(self) -> int:
        return max(map(len, self.rows.values()))


def _sounds(names: Iterable[str]) -> dict[str, bytes]:
    return {name: sound(number, "FLAC" if name.endswith(".flac") else "WAV") for number, name in enumerate(names)}


_FSDD = "free-spoken-digit-dataset-d6938f9/"
_DIGITS = [f"{digit}_{speaker}_{i}.wav" for digit in (0, 7) for i in (4, 5, 12) for speaker in ("george", "theo")]
_COMMANDS = ["go/0a7c2a8d_nohash_0.wav", "go/1b4c9b89_nohash_1.wav", "stop/0a7c2a8d_nohash_0.wav"]
_ESC = ["1-100032-A-0.wav", "2-100210-B-36.wav", "5-9032-A-0.wav"]
_ESC_CSV = """filename,fold,target,category,esc10,src_file,take
1-100032-A-0.wav,1,0,dog,True,100032,A
2-100210-B-36.wav,2,36,vacuum_cleaner,False,100210,B
5-9032-A-0.wav,5,0,dog,True,9032,A
"""
_URBAN = ["fold5/100032-3-0-0.wav", "fold10/100648-1-0-0.wav", "fold5/100032-3-0-1.wav"]
_URBAN_CSV = """slice_file_name,fsID,start,end,salience,fold,classID,class
100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark
100648-1-0-0.wav,100648,4.823402,5.471927,2,10,1,car_horn
100032-3-0-1.wav,100032,1.0,2.0,1,5,3,dog_bark
"""
_VOX = ["id10006/nLEBBc9oIFs/00003.wav", "id10006/-2bcd_fghij/00001.wav", "id10270/x6uYqmx31kE/00001.wav"]

SHAPES = {
    "fsdd": Shape(
        _sounds(f"{_FSDD}recordings/{name}" for name in _DIGITS)
        | {f"{_FSDD}README.md": b"# FSDD", f"{_FSDD}metadata.py": b"metadata = {}", f"{_FSDD}utils/fsdd.py": b""},
        {
            "speaker": [
                (name, name.split("_")[1], "", "testing" if "_4." in name else "training") for name in sorted(_DIGITS)
            ],
            "digit": [
                (name, name[0], name.split("_")[1], "testing" if "_4." in name else "training")
                for name in sorted(_DIGITS)
            ],
        },
    ),
    "mini_speech_commands": Shape(
        _sounds(f"mini_speech_commands/{name}" for name in _COMMANDS)
        | {f"__MACOSX/mini_speech_commands/{_COMMANDS[0].replace('/', '/._')}": b"Mac OS X"}
        | {"mini_speech_commands/README.md": b"CC BY 4.0"},
        {"word": [(name, name.split("/")[0], name.split("/")[1][:8], "") for name in _COMMANDS]},
    ),
    "speech_commands": Shape(
        _sounds(f"./{name}" for name in [*_COMMANDS, "_background_noise_/pink_noise.wav"])
        | {
            "./validation_list.txt": f"{_COMMANDS[1]}\n".encode(),
            "./testing_list.txt": f"{_COMMANDS[2]}\nstop/ffffffff_nohash_0.wav\n".encode(),
            "./LICENSE": b"CC BY 4.0",
        },
        {
            "word": [
                ("_background_noise_/pink_noise.wav", "_background_", "", ""),
                (_COMMANDS[0], "go", "0a7c2a8d", "training"),
                (_COMMANDS[1], "go", "1b4c9b89", "validation"),
                (_COMMANDS[2], "stop", "0a7c2a8d", "testing"),
            ]
        },
    ),
    "esc50": Shape(
        _sounds(f"ESC-50-33c8ce9/audio/{name}" for name in _ESC)
        | {"ESC-50-33c8ce9/meta/esc50.csv": _ESC_CSV.encode(), "ESC-50-33c8ce9/LICENSE": b"CC BY-NC"},
        {
            "category": [
                (_ESC[0], "dog", "100032", "1"),
                (_ESC[1], "vacuum_cleaner", "100210", "2"),
                (_ESC[2], "dog", "9032", "5"),
            ],
            "esc10": [(_ESC[0], "dog", "100032", "1"), (_ESC[2], "dog", "9032", "5")],
        },
    ),
    "urbansound8k": Shape(
        _sounds(f"UrbanSound8K/audio/{name}" for name in _URBAN)
        | {
            "UrbanSound8K/metadata/UrbanSound8K.csv": _URBAN_CSV.encode(),
            "UrbanSound8K/audio/fold5/.DS_Store": b"x",
            "UrbanSound8K/FREESOUNDCREDITS.txt": b"thanks",
        },
        {
            "class": [
                (_URBAN[1], "car_horn", "100648", "10"),
                (_URBAN[0], "dog_bark", "100032", "5"),
                (_URBAN[2], "dog_bark", "100032", "5"),
            ]
        },
    ),
    "librispeech": Shape(
        _sounds(
            f"LibriSpeech/dev-clean/{speaker}/{chapter}/{speaker}-{chapter}-0000.flac"
            for speaker, chapter in ((84, 121123), (84, 121550), (174, 50561))
        )
        | {"LibriSpeech/dev-clean/84/121123/84-121123.trans.txt": b"84-121123-0000 GO", "LibriSpeech/README.TXT": b"x"},
        {
            "speaker": [
                ("174-50561-0000.flac", "174", "50561", ""),
                ("84-121123-0000.flac", "84", "121123", ""),
                ("84-121550-0000.flac", "84", "121550", ""),
            ]
        },
    ),
    "cremad": Shape(
        _sounds(f"crema-d-mirror/AudioWAV/{n}.wav" for n in ("1001_DFA_ANG_XX", "1002_IEO_HAP_HI", "1040_ITH_SAD_X"))
        | {"crema-d-mirror/LICENSE.txt": b"ODbL"},
        {
            "emotion": [
                ("1001_DFA_ANG_XX.wav", "anger", "1001", ""),
                ("1002_IEO_HAP_HI.wav", "happy", "1002", ""),
                ("1040_ITH_SAD_X.wav", "sad", "1040", ""),
            ],
            "speaker": [
                ("1001_DFA_ANG_XX.wav", "1001", "DFA", ""),
                ("1002_IEO_HAP_HI.wav", "1002", "IEO", ""),
                ("1040_ITH_SAD_X.wav", "1040", "ITH", ""),
            ],
        },
    ),
    "voxceleb1": Shape(
        _sounds(f"vox1/dev/wav/{name}" for name in _VOX)
        | {"vox1/iden_split.txt": f"1 {_VOX[0]}\n3 {_VOX[1]}\n2 {_VOX[2]}\n1 id10001/aaaaaaaaaaa/00001.wav\n".encode()},
        {
            "speaker": [
                (_VOX[1], "id10006", "-2bcd_fghij", "testing"),
                (_VOX[0], "id10006", "nLEBBc9oIFs", "training"),
                (_VOX[2], "id10270", "x6uYqmx31kE", "validation"),
            ]
        },
    ),
}


def small_dataset(name: str, folder: Path, url: str = "http://127.0.0.1:9/") -> tuple[NamedDataset, Path]:
    """Write the archive of a small dataset, and describe it as the large one is described."""
    dataset, shape = DATASETS[name], SHAPES[name]
    suffix = ".zip" if dataset.archive is None else dataset.archive.suffix
    path = write_archive(folder / f"{name}{suffix}", shape.files)
    if dataset.archive is None:
        return dataclasses.replace(dataset, recordings=shape.recordings), path
    content = path.read_bytes()
    archive = Archive(f"{url}{path.name}", len(content), "sha256", hashlib.sha256(content).hexdigest())
    return dataclasses.replace(dataset, recordings=shape.recordings, archive=archive), path
