import numpy as np
import pytest
import tensorflow as tf

from pipeline.convert.tfrecord_reader import TfrecordFile
from pipeline.errors import InputError

IMAGE = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)


def write_images(path, images):
    """One record per image, given as its bytes."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for image in images:
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
            writer.write(tf.train.Example(features=tf.train.Features(feature={"image": feature})).SerializeToString())
    return path


@pytest.mark.parametrize("encode", [tf.io.encode_png, tf.io.encode_jpeg])
@pytest.mark.parametrize("at", [0, 1])
def test_encoded_image_truncated_to_the_size_of_raw_pixels_is_refused(tmp_path, encode, at):
    image = encode(IMAGE).numpy()
    images = [image, image]
    images[at] = image[: IMAGE.size]
    with pytest.raises(InputError, match=rf"record {at} \(counted from 0\): its image cannot be decoded"):
        file = TfrecordFile(write_images(tmp_path / "a", images))
        for block in file.read(file.first_row, None):
            file.parse(block)
