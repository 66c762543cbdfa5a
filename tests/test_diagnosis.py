import pytest

from pipeline.benchmark.diagnosis import Stages, diagnose

GPU = {"feed": "host", "scale": "device", "accelerator": "GPU", "steps_per_call": 16}
SLOW_COPY, SLOW_FEED, IDLE = (900, 500, 1000, 400), (500, 500, 1000, 400), (6000, 5000, 1000, 400)


@pytest.mark.parametrize(
    ("rates", "settings", "kind", "bottleneck", "option"),
    [
        ((6000, 5000, 1000, 990), {}, "compute-bound", "the feed delivers 5.0 times", "tools/benchmark.py step"),
        (IDLE, {}, "host-bound", "the host's loop;", "--steps-per-call 64"),
        (IDLE, {"accelerator": "CPU"}, "host-bound", "on the step's own cores", "--steps-per-call 64"),
        (SLOW_COPY, {}, "input-bound", "copying batches to the devices", "--feed device"),
        (SLOW_COPY, {"feed": "device"}, "input-bound", "copying batches to the devices", "--steps-per-call 64"),
        (SLOW_FEED, {}, "input-bound", "gathering batches on the host", "--feed device"),
        (SLOW_FEED, {"accelerator": "CPU"}, "input-bound", "gathering batches on the host", "--steps-per-call 64"),
        (SLOW_FEED, {"scale": "host"}, "input-bound", "scaling on the host", "--scale device"),
        (SLOW_FEED, {"feed": "stream"}, "input-bound", "reading from disk", "larger --memory-budget"),
        (SLOW_FEED, {"feed": "device"}, "input-bound", "drawing the order", "--steps-per-call 64"),
    ],
)
def test_diagnosis_names_the_bottleneck_and_the_option(rates, settings, kind, bottleneck, option):
    diagnosis = diagnose(Stages(*rates), **{**GPU, **settings})
    assert diagnosis.startswith(f"{kind}: accelerator utilisation {rates[3] / rates[2]:.1%}")
    assert bottleneck in diagnosis
    assert diagnosis.endswith(option)


@pytest.mark.parametrize("settings", [{"feed": "device"}, {"feed": "stream"}, {"scale": "host"}])
def test_an_option_in_use_is_not_suggested(settings):
    diagnosis = diagnose(Stages(*SLOW_COPY), **{**GPU, **settings})
    assert not any(diagnosis.endswith(f"try --{name} {value}") for name, value in settings.items())


def test_utilisation_far_above_one_is_called_noise():
    assert "utilisation 144.0% (above 100% is noise" in diagnose(Stages(6000, 5000, 1000, 1440), **GPU)
    assert "noise" not in diagnose(Stages(6000, 5000, 1000, 1010), **GPU)
