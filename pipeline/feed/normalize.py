"""From bytes to the network's input: one function for tf.data, the training step and the SavedModel."""

import dataclasses
import math
from typing import Any

KINDS = ("unit", "standard")


@dataclasses.dataclass(frozen=True)
class Normalization:
    """`unit` is x / 255; `standard` is (x - mean) / std with one mean and std per channel, in pixel units (0..255)."""

    kind: str = "unit"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"normalization kind must be one of {KINDS}, not {self.kind!r}")
        if self.kind == "standard" and not (self.mean and len(self.mean) == len(self.std)):
            raise ValueError(f"standard needs a mean and a std per channel, not {self.mean} and {self.std}")
        if not all(map(math.isfinite, self.mean + self.std)) or min(self.std, default=0) < 0:
            raise ValueError(f"mean {self.mean} and std {self.std} must be finite, and std 0 or more")

    def __str__(self) -> str:
        return self.kind

    def scale_and_offset(self) -> tuple[list[float], list[float]]:
        """Per channel a and b of y = a * x + b; a channel that never varies is only centred."""
        if self.kind == "unit":
            return [1 / 255], [0.0]
        scale = [1 / std if std > 0 else 1.0 for std in self.std]
        return scale, [-mean * factor for mean, factor in zip(self.mean, scale, strict=True)]

    def apply(self, images: Any, dtype: str = "float32") -> Any:
        """Normalize uint8 [..., H, W, C] to `dtype`, computed in float32 so that bfloat16 rounds once, at the end."""
        # Here and below, because options and config.json are checked before TensorFlow is imported.
        import tensorflow as tf

        scale, offset = self.scale_and_offset()
        values = tf.cast(images, tf.float32) * tf.constant(scale)
        # x / 255 has no offset, and adding zero would be one more pass over memory.
        if any(offset):
            values += tf.constant(offset)
        return tf.cast(values, dtype)

    def apply_on_cpu(self, images: Any, dtype: str = "float32") -> Any:
        """The same bits as `apply`, by one fused kernel for `unit`.

        Dequantizing with the range 0..1 computes x * (1 / 255) in float32 while it converts: one pass over memory
        instead of two. Only CPUs have a kernel for it, so steps and exported models use `apply`.
        """
        import tensorflow as tf

        if self.kind != "unit":
            return self.apply(images, dtype)
        bytes_in = tf.bitcast(images, tf.quint8)
        return tf.cast(tf.quantization.dequantize(bytes_in, 0.0, 1.0, mode="MIN_COMBINED"), dtype)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
