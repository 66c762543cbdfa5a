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
    """What no run has measured yet, between the rows that it is compared with; then one setting after another."""
    first = [Case(256), Case(256, xla=True), Case(256, 16, True, what="fit"), Case(256, 1, what="textbook_cached")]
    first += [Case(4096, xla=True), Case(4096, 16, True, what="fit"), Case(4096)]
    first += [Case(256, xla=xla, recipe="best") for xla in (False, True)]
    precisions = [Case(4096, precision=precision) for precision in (FLOAT32, FLOAT16)]
    fit = [Case(256, 16, what="fit"), Case(256, 1, what="fit"), Case(256, 64, True, what="fit")]
    longer = [Case(256, 64), Case(256, 64, True), Case(256, 4), Case(256, 1)]
    feeds = [Case(256, feed="host"), Case(4096, feed="host"), Case(256, 64, True, feed="host")]
    feeds += [Case(1024), Case(1024, feed="host"), Case(1024, xla=True), Case(256, 1, what="textbook")]
    rest = [Case(256, precision=precision) for precision in (FLOAT32, FLOAT16)]
    rest += [Case(256, 1, True, what="fit"), Case(4096, 16, what="fit"), Case(4096, 1, what="textbook")]
    rest += [Case(1024, 16, True, what="fit")]
    rest += [Case(4096, xla=True, precision=precision) for precision in (FLOAT32, FLOAT16)]
    rest += [Case(batch, steps) for batch in (1024, 4096) for steps in (1, 4, 64)]
    rest += [Case(1024, precision=precision) for precision in (FLOAT32, FLOAT16)]
    rest += [Case(256, steps, True) for steps in (1, 4)]
    return [*first, *precisions, *fit, *longer, *feeds, *rest]
