"""Train a peer, or label clips with one that was trained, in a process of its own.

python -m peers.run train NAME RECORDINGS.json MODEL    prints versions as JSON
python -m peers.run label MODEL FOLDER                  prints an answer for each clip, as label_image.py --json does
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import pickle
import sys
from pathlib import Path


def train(name: str, recordings: Path, model: Path) -> None:
    """Fit a peer on the recordings of a JSON list of paths and labels, and write it."""
    module = importlib.import_module(f"peers.{name}")
    paths, labels = zip(*json.loads(recordings.read_text("utf-8")), strict=True)
    peer = module.Peer()
    peer.fit(list(map(Path, paths)), labels)
    model.write_bytes(pickle.dumps((peer, sorted(set(labels)))))
    versions = {package: importlib.metadata.version(package) for package in module.PACKAGES}
    print(json.dumps({"versions": versions}))


def label(model: Path, folder: Path) -> None:
    """Print the scores of each clip in a folder."""
    peer, labels = pickle.loads(model.read_bytes())
    clips = sorted(folder.iterdir())
    for clip, scores in zip(clips, peer.predict(clips), strict=True):
        ranked = [{"label": name, "probability": float(score)} for name, score in zip(labels, scores, strict=True)]
        print(json.dumps({"file": str(clip), "labels": ranked}))


def main(command: str, *arguments: str) -> None:
    if command == "train":
        name, recordings, model = arguments
        train(name, Path(recordings), Path(model))
    else:
        model, folder = arguments
        label(Path(model), Path(folder))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ModuleNotFoundError as error:
        sys.exit(f"{error.name} is not installed: pip install 'audionet[benchmark]'")
