"""Write an Inception-v3 with random weights as a SavedModel, as a backbone of the recipe of 2018."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main(folder: str, side: int = 299) -> None:
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.layers.Input((side, side, 3))
    scaled = keras.layers.Rescaling(2, -1)(inputs)
    body = keras.applications.InceptionV3(include_top=False, weights=None, pooling="avg", input_tensor=scaled)
    keras.Model(inputs, body.output).export(folder, verbose=False)


if __name__ == "__main__":
    main(sys.argv[1])
