"""Products that were measured at exactly their shape: asked first, in three layouts and grouped; the law answers the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run
from made_records import as_record, fake, session

from planner.calibration.calibrate import calibrate, kept_kernels
from planner.calibration.profiles import write_profiles
from planner.common.errors import PlannerError
from planner.hardware.cluster import Accelerator, load_accelerator
from planner.hardware.curves import curves_of
from planner.hardware.measured_kernels import kernel
from planner.operators.row import Matmul, linear
from planner.performance.roofline import Device, device_s, measured_s


def card(**kept: float) -> Accelerator:
    return load_accelerator("h200-sxm-141gb").model_copy(
        update={"measured_kernels": {k.replace("_", " "): v for k, v in kept.items()}}
    )


def seconds(card: Accelerator, m: Any, n: float = 4096.0, k: float = 2048.0, **more: Any) -> list[Any]:
    """Of the forward product, the input's and the weight's gradient."""
    rows = linear("x", "b", Matmul(m=m, n=n, k=k, **more), width=2.0)
    return [device_s(row, Device(accelerator=card, curves=curves_of(card), dtype="bf16", unquantized="bf16")) for row in rows]


def test_a_measured_shape_answers_and_the_law_the_rest() -> None:
    law, kept = card(), card(bf16_nt_512_x_4096_x_2048=1.0, bf16_nn_512_x_2048_x_4096=2.0, bf16_tn_4096_x_2048_x_512=3.0)
    for m in (511.0, 512.0, 513.0):
        ours, theirs = seconds(kept, m), seconds(law, m)
        if m == 512.0:
            sustained = curves_of(law).sustained_fraction
            for found, measured in zip(ours, (1.0, 2.0, 3.0), strict=True):  # training's clocks slow a burst's
                assert measured <= float(found) <= measured / sustained * (1 + 1e-9)
        else:
            assert ours == theirs
    both = seconds(kept, np.array([511.0, 512.0]))[0]
    assert float(both[0]) == float(seconds(law, 511.0)[0])
    assert float(both[1]) == float(seconds(kept, 512.0)[0])


def test_a_weight_gradient_is_its_transpose() -> None:
    for name in ("bf16_tn_4096_x_2048_x_512", "bf16_tn_2048_x_4096_x_512"):
        assert float(seconds(card(**{name: 3.0}), 512.0)[2]) >= 3.0


def test_groups_and_types_are_told_apart() -> None:
    grouped = card(bf16_grouped_nt_8_x_512_x_4096_x_2048=1.0)
    assert float(seconds(grouped, 512.0, batch=8.0, grouped=True)[0]) >= 1.0
    assert seconds(grouped, 512.0) == seconds(card(), 512.0)
    assert seconds(grouped, 512.0, batch=4.0, grouped=True) == seconds(card(), 512.0, batch=4.0, grouped=True)
    row = linear("x", "b", Matmul(m=512.0, n=4096.0, k=2048.0), width=2.0)[0]
    assert np.isnan(measured_s(row, card(fp16_nt_512_x_4096_x_2048=1.0), "bf16"))


@pytest.mark.parametrize(
    "name", ["bf16 nt 8 x 8", "bf16 tt 8 x 8 x 8", "bf16 grouped nt 8 x 8 x 8", "bf16 nt 0 x 8 x 8", "8 x 8 x 8"]
)
def test_a_line_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(PlannerError, match="8192 x 4096 x 4096"):
        kernel(name)


def test_quiet_samples_are_kept_and_come_back_from_the_profile(tmp_path: Path, run: Run) -> None:
    made = session()
    for m in (64, 256, 1024, 4096):
        for n, k in ((256, 256), (768, 768), (3072, 768)):
            took, flops = 2.0 * m * n * k / 1e12 + 1e-5, 2.0 * m * n * k
            made.record["samples"].append(fake("gemm", "matmul", {"m": m, "n": n, "k": k, "layout": "nt"}, took, flops, 1.0))
    for size in (2**14, 2**18, 2**22, 2**26):
        made.record["samples"].append(fake("memory", "copy", {"bytes": size}, 3e-6 + 2e-11 * size, 0.0, 2.0 * size))
    noisy = made.record["samples"][0]
    noisy["time"]["noisy"] = True
    record = as_record(made)
    found = calibrate(record, "mine")
    assert len(kept_kernels(record, found.accelerator)) == 11
    assert kernel(min(found.accelerator.measured_kernels)).dtype == "fp32"
    path, *_ = write_profiles(found, tmp_path / "mine.toml")
    again = load_accelerator(str(path))
    assert again.measured_kernels == found.accelerator.measured_kernels
    scenario = tmp_path / "s.toml"
    scenario.write_text(
        '[model]\nname = "gpt2"\n[cluster]\nnode = "mine-node.toml"\n[framework]\nname = "mine-framework.toml"\n'
        '[job]\nseq_len = 512\nglobal_batch_size = 2\nnum_steps = 10\nprecision = "fp32"\n[layout]\nmicro_batch_size = 2\n'
    )
    code, printed, err = run("operators", str(scenario), "--json")
    assert code == 0, err
    rows = json.loads(printed)["rows"]
    measured = {row["name"] for row in rows if row.get("provenance") == "measured"}
    assert measured, "1,024 tokens of GPT-2's 768 x 768 and 3072 x 768 were measured"
    assert all("gradient" not in name for name in measured), "only forward layouts were"
