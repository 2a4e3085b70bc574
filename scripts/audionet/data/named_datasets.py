"""Public datasets that AudioNet fetches by name: where they lie, under which licence, and what labels their files.

Sizes and hashes are those that several independent projects have published; each says which. GitHub and GitLab pack an
archive of a commit when it is asked for, and do not promise the same bytes (``exact`` is false): there the hash is
only a hint, and the number of files and their checksums inside the ZIP archive are what is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from audionet.data.named_rows import Metadata, Rows, by_column, listed, sets_by_number
from audionet.data.naming import BACKGROUND
from audionet.utils.text import format_size

_NOTICES = r"(?:LICEN[CS]E|README|FREESOUNDCREDITS)(?:\.\w{1,3})?"
_COMMAND = r"(?P<word>[a-z]+)/(?P<speaker>[0-9a-f]{8})_nohash_\d+\.wav"


@dataclass(frozen=True)
class Archive:
    """Archive on a server.

    Attributes
    ----------
    url : str
    size : int
        Bytes.
    algorithm, digest : str
        Hash of its content, in hexadecimal; empty if none is known.
    exact : bool
        Whether size and hash stay the same.
    """

    url: str
    size: int
    algorithm: str = ""
    digest: str = ""
    exact: bool = True

    @property
    def size_text(self) -> str:
        """Size for readers, such as ``about 16.4 MB``."""
        return f"{'' if self.exact else 'about '}{format_size(self.size)}"

    @property
    def suffix(self) -> str:
        """Ending of its file."""
        path = PurePosixPath(urlsplit(self.url).path)
        return ".tar.gz" if path.name.endswith(".tar.gz") else path.suffix


@dataclass(frozen=True)
class Table:
    """Labels of a dataset's recordings.

    Attributes
    ----------
    about : str
        What the labels are.
    label, group, split : str
        Fields of a recording: its label, what is kept together, and its set or fold; empty if it has none.
    only : str
        Field that is ``True`` where a recording belongs to the table; empty if all do.
    official : tuple of str
        Flags of ``audionet train`` for the official split; empty if there is none.
    """

    about: str
    label: str
    group: str = ""
    split: str = ""
    only: str = ""
    official: tuple[str, ...] = ()


@dataclass(frozen=True)
class NamedDataset:
    """Public dataset.

    Attributes
    ----------
    title, licence, citation, homepage : str
    archive : Archive or None
        None if it cannot be downloaded without asking its authors.
    recordings : int
        Number of its recordings.
    rows : Rows
        Which files are recordings, and what is known of each.
    tables : mapping of str to Table
        By the name that ``--by`` takes; the first is the default.
    notices : str
        Expression of the names of other files that are kept.
    """

    title: str
    licence: str
    citation: str
    homepage: str
    archive: Archive | None
    recordings: int
    rows: Rows
    tables: Mapping[str, Table]
    notices: str = field(default=_NOTICES)


_GIVEN = ("--split", "given")
_GIVEN_ALONE = (*_GIVEN, "--group", ".+")  # the official sets share speakers

_GOOGLE = "https://storage.googleapis.com/download.tensorflow.org/data"
_SPEECH_COMMANDS = "Warden 2018, Speech Commands, arXiv:1804.03209"
_EMOTIONS = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
_ESC50_COMMIT = "33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6"
_CREMAD_COMMIT = "d15eeed6a139e9724483ed9a2fc4643f88708b79"

DATASETS: Mapping[str, NamedDataset] = {
    "fsdd": NamedDataset(
        title="Free Spoken Digit Dataset 1.0.10: ten digits by six speakers",
        licence="CC BY-SA 4.0",
        citation="Jackson et al., doi:10.5281/zenodo.1342401",
        homepage="https://github.com/Jakobovski/free-spoken-digit-dataset",
        # Size and hash: one project's, of this tag, which was commit d6938f9bf1545aa66d8489fc9f1385a7abd64282.
        # Of the commit's own archive, whose folder has another name, none is known.
        archive=Archive(
            "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.zip",
            16_419_872,
            "sha256",
            "c680098f5d2355ba7cc4bd8b0ca9e0a24c00ebe3b4c552208889a4d28d4fbc2b",
            exact=False,
        ),
        recordings=3_000,
        rows=Rows(
            r"(?P<digit>\d)_(?P<speaker>[a-z]+)_(?P<index>\d+)\.wav",
            # README: recordings 0 to 4 of each digit and speaker are the test set.
            derive=lambda fields: {"set": "testing" if int(fields["index"]) < 5 else "training"},
        ),
        tables={
            "speaker": Table("who speaks", "speaker", split="set", official=_GIVEN),
            "digit": Table("which digit is said", "digit", group="speaker", split="set", official=_GIVEN_ALONE),
        },
    ),
    "mini_speech_commands": NamedDataset(
        title="Mini Speech Commands: eight words, 1,000 recordings each",
        licence="CC BY 4.0",
        citation=_SPEECH_COMMANDS,
        homepage="https://www.tensorflow.org/tutorials/audio/simple_audio",
        # Size: TensorFlow's tutorial. Hash: the same in six projects.
        archive=Archive(
            f"{_GOOGLE}/mini_speech_commands.zip",
            182_082_353,
            "sha256",
            "49650f2341b26d886b46b3f4fb8fed59e30300b17550f1ee4a768b3106cf93a0",
        ),
        recordings=8_000,
        rows=Rows(_COMMAND),
        # Without a column of sets, --split given finds those of Speech Commands by the names.
        tables={"word": Table("which word is said", "word", group="speaker", official=_GIVEN)},
    ),
    "speech_commands": NamedDataset(
        title="Speech Commands 0.02: 35 words by 2,618 speakers, and six background noises",
        licence="CC BY 4.0",
        citation=_SPEECH_COMMANDS,
        homepage="https://huggingface.co/datasets/google/speech_commands",
        # Size: TensorFlow Datasets. Hash: the same there and in torchaudio.
        archive=Archive(
            f"{_GOOGLE}/speech_commands_v0.02.tar.gz",
            2_428_923_189,
            "sha256",
            "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        ),
        recordings=105_829 + 6,
        rows=Rows(
            rf"{_COMMAND}|(?P<noise>_background_noise_)/\w+\.wav",
            metadata=(
                Metadata("validation_list.txt", listed("validation"), names_all=False),
                Metadata("testing_list.txt", listed("testing"), names_all=False),
            ),
            derive=lambda fields: (
                {"word": BACKGROUND, "speaker": "", "set": ""}
                if fields["noise"]
                else {"set": fields.get("set", "training")}
            ),
        ),
        tables={"word": Table("which word is said", "word", group="speaker", split="set", official=_GIVEN)},
    ),
    "esc50": NamedDataset(
        title="ESC-50: 50 environmental sounds, 40 clips of 5 s each",
        licence="CC BY-NC 3.0; the clips of ESC-10 CC BY 3.0",
        citation="Piczak 2015, ESC: Dataset for Environmental Sound Classification, doi:10.1145/2733373.2806390",
        homepage="https://github.com/karolpiczak/ESC-50",
        # Size and hash: the same in six projects; others have seen other hashes of the same commit.
        archive=Archive(
            f"https://github.com/karolpiczak/ESC-50/archive/{_ESC50_COMMIT}.zip",
            645_832_161,
            "sha256",
            "661183a6f53ef04f12c9bd618fed0ddc1713280d6c94a5a5431e844ba6f6a21f",
            exact=False,
        ),
        recordings=2_000,
        rows=Rows(r"[1-5]-\d+-[A-Z]-\d+\.wav", metadata=(Metadata("esc50.csv", by_column("filename")),)),
        tables={
            "category": Table("50 sounds, in five folds", "category", "src_file", "fold", official=_GIVEN),
            "esc10": Table(
                "the ten sounds of ESC-10, in five folds", "category", "src_file", "fold", "esc10", official=_GIVEN
            ),
        },
    ),
    "urbansound8k": NamedDataset(
        title="UrbanSound8K: ten sounds of the city",
        licence="CC BY-NC 3.0",
        citation="Salamon, Jacoby and Bello 2014, A Dataset and Taxonomy for Urban Sound Research",
        homepage="https://urbansounddataset.weebly.com/urbansound8k.html",
        # Hash: Zenodo's, the same in soundata. Size: the same in four projects.
        archive=Archive(
            "https://zenodo.org/records/1203745/files/UrbanSound8K.tar.gz",
            6_023_741_708,
            "md5",
            "9aa69802bbf37fb986f71ec1483a196e",
        ),
        recordings=8_732,
        rows=Rows(
            r"fold\d+/\d+-\d-\d+-\d+\.wav",
            metadata=(Metadata("UrbanSound8K.csv", by_column("slice_file_name", folder="fold{fold}/")),),
        ),
        tables={"class": Table("ten sounds, in ten folds", "class", "fsID", "fold", official=_GIVEN)},
    ),
    "librispeech": NamedDataset(
        title="LibriSpeech dev-clean: 40 readers, 5.4 hours",
        licence="CC BY 4.0",
        citation="Panayotov et al. 2015, Librispeech: an ASR corpus based on public domain audio books",
        homepage="https://www.openslr.org/12",
        # Size: TensorFlow Datasets. Hash: the same there and in torchaudio.
        archive=Archive(
            "https://www.openslr.org/resources/12/dev-clean.tar.gz",
            337_926_286,
            "sha256",
            "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
        ),
        recordings=2_703,
        rows=Rows(r"(?P<speaker>\d+)-(?P<chapter>\d+)-\d+\.flac"),
        tables={"speaker": Table("who reads; chapters are kept together", "speaker", group="chapter")},
    ),
    "cremad": NamedDataset(
        title="CREMA-D: 91 actors, six emotions, twelve sentences",
        licence="Open Database License 1.0",
        citation="Cao et al. 2014, CREMA-D, doi:10.1109/TAFFC.2014.2336244",
        homepage="https://github.com/CheyneyComputerScience/CREMA-D",
        # GitHub's own archive holds no sound, which is kept in Git LFS; the authors' mirror does. Size: an estimate.
        archive=Archive(
            f"https://gitlab.com/cs-cooper-lab/crema-d-mirror/-/archive/{_CREMAD_COMMIT}/"
            f"crema-d-mirror-{_CREMAD_COMMIT}.zip?path=AudioWAV",
            600_000_000,
            exact=False,
        ),
        recordings=7_442,
        rows=Rows(
            r"(?P<speaker>1\d{3})_(?P<sentence>[A-Z]{3})_(?P<code>[A-Z]{3})_[A-Z]{1,2}\.wav",
            derive=lambda fields: {"emotion": _EMOTIONS.get(fields["code"], fields["code"])},
        ),
        tables={
            "emotion": Table("which emotion is acted; actors are kept together", "emotion", group="speaker"),
            "speaker": Table("who speaks; sentences are kept together", "speaker", group="sentence"),
        },
    ),
    "voxceleb1": NamedDataset(
        title="VoxCeleb1: 1,251 speakers in interviews",
        licence="annotations CC BY 4.0; the recordings belong to those who published them",
        citation="Nagrani, Chung and Zisserman 2017, VoxCeleb, arXiv:1706.08612",
        homepage="https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html",
        archive=None,
        recordings=153_516,
        rows=Rows(
            r"(?P<speaker>id\d{5})/(?P<video>[\w-]{11})/\d{5}\.(?:wav|flac|m4a)",
            metadata=(Metadata("iden_split.txt", sets_by_number, names_all=False, optional=True),),
        ),
        tables={"speaker": Table("who speaks; videos are kept together", "speaker", "video", "set", official=_GIVEN)},
    ),
}
"""Datasets by name."""
