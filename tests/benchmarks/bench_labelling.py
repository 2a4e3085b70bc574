"""How long until the first answer, compared with loading TensorFlow and the same model as a SavedModel?

Bar: a labelling from a cold start takes at most a quarter of it; aim for a tenth.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import SAMPLE_AUDIO, arguments, demo_model, in_turn, machine, ratio, script

STOCK = """
import sys
import numpy as np
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
print(model.signatures["serving_default"](tf.zeros([1, 128, 128, 3]))["probabilities"].numpy().argmax())
"""


def save_as_saved_model(graph: Path, folder: Path) -> None:
    """The same network in Keras, with a top layer of the same size: only its speed matters here."""
    import keras
    import tensorflow as tf

    from audionet.backbones.inception import FeatureLayer, inception_v3
    from audionet.inference.predictor import Predictor

    backbone = inception_v3((128, 128), FeatureLayer())
    top = keras.layers.Dense(len(Predictor(graph).labels), activation="softmax")
    top.build((None, 2048))
    module = tf.Module()
    module.parts = [backbone, top]
    answer = tf.function(
        lambda pixels: {"probabilities": top(backbone(pixels, training=False))},
        input_signature=[tf.TensorSpec([1, 128, 128, 3], tf.float32)],
    )
    tf.saved_model.save(module, str(folder), signatures={"serving_default": answer})


def main() -> None:
    options = arguments(__doc__)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graph = demo_model(folder)
        save_as_saved_model(graph, folder / "saved_model")
        clip = next((folder / "wav").glob("*/*.wav"))
        (folder / "stock.py").write_text(STOCK)
        stock = [sys.executable, str(folder / "stock.py"), str(folder / "saved_model")]
        ours, long, theirs = in_turn(
            options.rounds,
            lambda: script("label_image.py", "--graph", graph, clip),
            lambda: script("label_image.py", "--graph", graph, SAMPLE_AUDIO / "flite-slt" / "unseen.mp3"),
            lambda: subprocess.run(stock, check=True, capture_output=True),
        )
    print(machine())
    print(f"a 3 s WAV, cold start          {statistics.median(ours):6.2f} s")
    print(f"a 24 s MP3, cold start         {statistics.median(long):6.2f} s")
    print(f"TensorFlow and a SavedModel    {statistics.median(theirs):6.2f} s")
    print(f"ratio of the first to the last {ratio(ours, theirs)}   bar 0.25, aim 0.1")


if __name__ == "__main__":
    main()
