from tests.helpers.benchmarks import run

STEP = ("--batch-size", 16, "--precision", "float32")


def test_feed_step_and_both_are_measured(digits, tmp_path, capsys):
    results = run(tmp_path, "train", "--data", digits, "--devices", 2, "--batch-size", 16)
    assert list(results["rows"]) == ["dataset", "feed", "step", "train"]
    assert all(row["images_per_second"] > 0 for row in results["rows"].values())
    assert results["machine"]["replicas"] == 2
    utilisation = results["ratios"][("train", "step")]["median"]
    assert f": accelerator utilisation {utilisation:.1%}" in results["diagnosis"]
    assert capsys.readouterr().out.endswith(results["diagnosis"] + "\n")


def test_each_step_is_measured_against_the_peak(digits, tmp_path):
    results = run(tmp_path, "step", "--data", digits, *STEP, "--steps-per-call", 1, 13, 500)
    rows = results["rows"]
    # 203 rows are 13 steps, which is what both requests for longer calls resolve to.
    assert list(rows) == ["float32_b16_k1", "float32_b16_k13"]
    # 8x8 pixels: convolutions on 8x8 and 4x4, then 2*2*64 -> 256 -> 3.
    forward = 2 * (25 * 32 * 64 + 25 * 32 * 32 * 64 + 9 * 32 * 64 * 16 + 9 * 64 * 64 * 16 + 256 * 256 + 256 * 3)
    assert rows["float32_b16_k1"]["flops_per_image"] == 3 * forward
    assert rows["float32_b16_k1"]["peak_flops"] == rows["float32_b16_k13"]["peak_flops"] > 0
    fastest = max(rows.values(), key=lambda row: row["images_per_second"])
    assert results["diagnosis"].startswith(f"fastest: {fastest['text']}; ")
    assert [above for above, _ in results["ratios"]] == [fastest["id"]]


def test_a_step_compiled_by_xla_is_measured(digits, tmp_path):
    results = run(tmp_path, "step", "--data", digits, *STEP, "--steps-per-call", 1, "--xla", "on")
    assert results["rows"]["float32_b16_k1_xla"]["text"].endswith("--steps-per-call 1 --xla")
