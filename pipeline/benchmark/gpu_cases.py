"""What the GPU benchmark measures, in the order of what matters most, and what the data sheets promise."""

from typing import NamedTuple

# Operations per second of dense matrix products on the data sheets (H100 SXM, H200 SXM), by name and compute type;
# float32 products and convolutions run as TF32 unless TensorFlow is told otherwise.
_HOPPER = {"float32": 494.7e12, "bfloat16": 989.4e12, "float16": 989.4e12}
PEAKS = {"NVIDIA H100 80GB HBM3": _HOPPER, "NVIDIA H200": _HOPPER}

BFLOAT16, FLOAT32, FLOAT16 = "mixed_bfloat16", "float32", "mixed_float16"


class Case(NamedTuple):
    """One row: what trains (`ours`, `fit`, `textbook` or `textbook_cached`), and with which settings of train.py."""

    batch_size: int
    steps_per_call: int = 16
    xla: bool = False
    precision: str = BFLOAT16
    feed: str = "device"
    what: str = "ours"
    recipe: str = "tutorial"

    @property
    def id(self) -> str:
        """Such as ours_device_mixed_bfloat16_b256_k16_xla."""
        feed = f"_{self.feed}" if self.what == "ours" else ""
        feed += f"_{self.recipe}" if self.recipe != "tutorial" else ""
        settings = f"{self.precision}_b{self.batch_size}_k{self.steps_per_call}{'_xla' * self.xla}"
        return f"{self.what}{feed}_{settings}"

    @property
    def text(self) -> str:
        """For people."""
        feed = f" {self.feed}" if self.what == "ours" else ""
        feed += f", recipe {self.recipe}" if self.recipe != "tutorial" else ""
        xla = ", XLA" if self.xla else ""
        return (
            f"{self.what}{feed}: batch {self.batch_size}, {self.steps_per_call} steps per call, {self.precision}{xla}"
        )


def default_cases() -> list[Case]:
    """Utilisation with both feeds, XLA, what others reach, then one setting after another."""
    ours = [Case(batch, feed=feed) for batch in (256, 4096, 1024) for feed in ("device", "host")]
    ours += [Case(batch, xla=True) for batch in (256, 4096, 1024)]
    ours += [Case(256, xla=xla, recipe="best") for xla in (False, True)]
    fit = [Case(256, 16, True, what="fit"), Case(4096, 16, True, what="fit"), Case(256, 16, what="fit")]
    fit += [Case(256, 1, what="fit"), Case(4096, 16, what="fit"), Case(256, 64, True, what="fit")]
    textbook = [Case(256, 1, what=what) for what in ("textbook", "textbook_cached")]
    longer = [Case(256, 64), Case(256, 64, True), Case(256, 64, True, feed="host"), Case(256, 4), Case(256, 1)]
    precisions = [Case(4096, precision=precision) for precision in (FLOAT32, FLOAT16)]
    precisions += [Case(256, precision=precision) for precision in (FLOAT32, FLOAT16)]
    rest = [Case(256, 1, True, what="fit"), Case(4096, 1, what="textbook"), Case(1024, 16, True, what="fit")]
    rest += [Case(4096, xla=True, precision=precision) for precision in (FLOAT32, FLOAT16)]
    rest += [Case(batch, steps) for batch in (1024, 4096) for steps in (1, 4, 64)]
    rest += [Case(1024, precision=precision) for precision in (FLOAT32, FLOAT16)]
    rest += [Case(256, steps, True) for steps in (1, 4)]
    return [*ours, *fit, *textbook, *longer, *precisions, *rest]
