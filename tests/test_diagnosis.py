import pytest

from pipeline.benchmark.diagnosis import Stages, verdict_of

GPU = {"feed": "host", "scale": "device", "accelerator": "GPU", "steps_per_call": 16}


@pytest.mark.parametrize(
    ("rates", "settings", "kind", "stage", "flag"),
    [
        ((6000, 5000, 1000, 990), {}, "compute-bound", "the step", "benchmark.py step"),
        ((6000, 5000, 1000, 400), {}, "bound by the host", "the host's loop", "--steps-per-call 64"),
        ((6000, 5000, 1000, 400), {"accelerator": "CPU"}, "bound by the host", "step's own processor", "--steps-per"),
        ((900, 500, 1000, 400), {}, "input-bound", "the hand-over to the devices", "--feed device"),
        ((500, 500, 1000, 400), {}, "input-bound", "the gather on the host", "--feed device"),
        ((500, 500, 1000, 400), {"accelerator": "CPU"}, "input-bound", "the gather on the host", "--steps-per-call 64"),
        ((500, 500, 1000, 400), {"scale": "host"}, "input-bound", "scaling on the host", "--scale device"),
        ((500, 500, 1000, 400), {"feed": "stream"}, "input-bound", "reading from disk", "larger --memory-budget"),
        ((500, 500, 1000, 400), {"feed": "device"}, "input-bound", "drawing the order", "--steps-per-call 64"),
        ((900, 500, 1000, 400), {"feed": "device"}, "input-bound", "the hand-over", "--steps-per-call 64"),
    ],
)
def test_the_verdict_names_the_slow_stage_and_the_flag(rates, settings, kind, stage, flag):
    verdict = verdict_of(Stages(*rates), **{**GPU, **settings})
    assert verdict.startswith(f"{kind}: the devices compute {rates[3] / rates[2]:.0%} of the time")
    told, advice = verdict.split("the slow stage is ")[1].split("try" if "try" in verdict else "and", 1)
    assert stage in told
    assert flag in advice


@pytest.mark.parametrize("settings", [{"feed": "device"}, {"feed": "stream"}, {"scale": "host"}])
def test_a_flag_is_not_advised_where_it_is_given(settings):
    verdict = verdict_of(Stages(900, 500, 1000, 400), **{**GPU, **settings})
    assert not any(verdict.endswith(f"try --{name} {value}") for name, value in settings.items())
