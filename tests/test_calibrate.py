"""Calibration from beginning to end: on machines whose law is known, and for real on a tiny model."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from infertuner import calibrate as command
from infertuner.commands import run_command
from infertuner.errors import CalibrationError
from infertuner.latency import hardware
from infertuner.latency.calibration import calibrate, fit_calibration
from infertuner.latency.evidence import fitted_s, gather, load_evidence, load_samples
from infertuner.latency.fitted import ProfileLatency
from infertuner.latency.machine import DeviceState, Hardware, HostGap, Software
from infertuner.latency.measuring.extras import EXTRA_VISITS, Extra
from infertuner.latency.measuring.plan import Plan, choose, hardware_slug, make_plan
from infertuner.latency.measuring.polish import MIN_VISITS
from infertuner.latency.measuring.protocol import CannotMeasureError, measure
from infertuner.latency.measuring.sample_table import read_samples_csv
from infertuner.latency.measuring.samples import Measurements, SampleFile, Timing, Work
from infertuner.latency.merging import merge
from infertuner.latency.points import Limits, Point
from infertuner.latency.profile import load_calibration
from infertuner.outcomes.calibration_report import warnings
from tests.conftest import ROOT, TINY_MODEL

SHIPPED = ROOT / "calibration" / "epyc-1t-cpu-25m.json"
MACHINE = Hardware(name="Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz", device="cpu", threads=2, memory_bytes=2**34)
SOFTWARE = Software(
    python="3", torch="2", transformers="5", cuda=None, attention="none", execution="eager", kv_cache="slot"
)
SMALL = Limits(tuple(range(1, 5)), max_context_tokens=256, max_batch_tokens=512, mixed=10)


def true_s(work: Point | Extra) -> float:
    """A machine that reads 10 GB/s and computes a token in 0.1 ms; copies have a start-up time."""
    if isinstance(work, Extra):
        if work.kind == "generate":
            steps_s = sum(true_s(Point("decode", work.batch_size, 1, work.new_tokens + i, "fit")) for i in range(1, 10))
            return true_s(Point("prefill", work.batch_size, work.new_tokens, 0, "fit")) + steps_s
        return {"matmul": 1e-3, "read": work.size / 1e12}.get(work.kind, 1e-6 + work.size / 1e10)
    prefill_s = 2e-4 * work.batch_size + 1e-7 * work.attended_pairs if work.kind != "decode" else 0.0
    return 2e-3 + 1e-4 * work.batch_tokens + 5e-7 * (work.kv_entries + work.decode_entries) + prefill_s


class LawBench:
    """A machine that follows `true_s` with noise; its clock moves only while it works.

    surprise: how much longer it takes where it was not fitted, that is, how wrong our law is about it.
    """

    def __init__(
        self,
        noise: float = 0.002,
        *,
        dies_after: int | None = None,
        surprise: float = 1.0,
        too_large: Point | None = None,
    ) -> None:
        self.rng = np.random.default_rng(0)
        self.noise, self.dies_after, self.surprise = noise, dies_after, surprise
        self.too_large = too_large
        self.visits, self.now_s = 0, 0.0

    def visit(self, work: Work, target_s: float) -> Timing:
        if self.visits == self.dies_after:
            raise KeyboardInterrupt
        if work == self.too_large:
            raise CannotMeasureError("out of memory")
        self.visits += 1
        self.now_s += max(target_s, 0.05)
        typical_s = true_s(work) * (self.surprise if getattr(work, "role", "") == "holdout" else 1.0)
        seconds = [typical_s * math.exp(self.rng.normal(0, self.noise)) for _ in range(3)]
        return Timing(seconds, seconds, [False] * 3)

    def state(self) -> DeviceState | None:
        return None


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(choose("cpu-25m", None, 1, ""), MACHINE, SOFTWARE, dtype="fp32", limits=SMALL, seed=1)


def run(plan, out, bench, *, resume=False, budget_s=1e6):
    return calibrate(plan, lambda: bench, out, budget_s=budget_s, resume=resume, tell=lambda _: None)


def test_a_calibration_recovers_the_machine_and_writes_profile_and_samples(plan, tmp_path):
    outcome = run(plan, tmp_path / "x.json", LawBench())
    assert outcome.written == tmp_path / "x.json"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.json", "x.samples.csv.gz"]
    written = load_calibration(tmp_path / "x.json")
    assert written == outcome.calibration
    assert written.protocol.stopped == "interval"
    assert written.prefill.holdout.mean_ratio < 0.01
    assert written.decode.holdout.mean_ratio < 0.01
    digest = hashlib.sha256((tmp_path / "x.samples.csv.gz").read_bytes()).hexdigest()
    assert (written.samples.file, written.samples.sha256) == ("x.samples.csv.gz", digest)


def test_what_the_profile_answers_is_what_was_fitted(plan, tmp_path):
    model = ProfileLatency(run(plan, tmp_path / "x.json", LawBench()).calibration, name="x", refuse=True)
    for point in plan.points:
        assert fitted_s(model, point) == pytest.approx(true_s(point), rel=0.08 if point.kind == "mixed" else 0.03)


def test_an_interrupted_calibration_loses_nothing_and_is_resumed(plan, tmp_path):
    out, part = tmp_path / "x.json", tmp_path / "x.samples.jsonl.part"
    with pytest.raises(KeyboardInterrupt):
        run(plan, out, LawBench(dies_after=25))
    before = part.read_text()
    assert len(before.splitlines()) == 1 + 25
    with pytest.raises(CalibrationError, match="add --resume"):
        run(plan, out, LawBench())
    assert part.read_text() == before
    resumed = run(plan, out, LawBench(), resume=True)
    assert resumed.written == out
    assert not part.exists()
    samples = pd.read_csv(tmp_path / "x.samples.csv.gz")
    assert sum(samples.kind.isin(["prefill", "decode", "mixed"])) == resumed.calibration.protocol.calls


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_three_times_it_ends_complete_and_measures_nothing_twice(plan, tmp_path, seed):
    deaths = np.random.default_rng(seed).integers(5, 100, 3).tolist()
    for dies_after in deaths:
        with pytest.raises(KeyboardInterrupt):
            run(plan, tmp_path / "x.json", LawBench(dies_after=dies_after), resume=True)
        with (tmp_path / "x.samples.jsonl.part").open("a") as part:
            part.write('{"kind": "dec')  # a line torn by the kill
    last = LawBench()
    calibration = run(plan, tmp_path / "x.json", last, resume=True).calibration
    measured = load_samples(tmp_path / "x.json", calibration)
    visits = [(visit.point, visit.round) for visit in measured.visits]
    visits += [(visit.extra, visit.round) for visit in measured.extras]
    assert len(visits) == len(set(visits)) == sum(deaths) + last.visits
    for point in plan.points:
        assert {number for one, number in visits if one == point} >= set(range(MIN_VISITS))
    for extra in plan.extras:
        assert [number for one, number in visits if one == extra] == list(range(EXTRA_VISITS))


def test_a_sample_faster_than_peak_is_caught_and_named(plan, tmp_path):
    """One visit tampered with in the file: left out, named, measured again, and the rest is kept."""
    out, part = tmp_path / "x.json", tmp_path / "x.samples.jsonl.part"
    with pytest.raises(KeyboardInterrupt):
        run(plan, out, LawBench(dies_after=len(plan.points) + len(plan.extras) + 5))
    lines = [json.loads(line) for line in part.read_text().splitlines()]
    victim = next(line for line in lines[1:] if line["kind"] == "decode" and line["role"] == "fit")
    victim["seconds"] = [1e-6] * 3
    part.write_text("".join(json.dumps(line) + "\n" for line in lines))
    calibration = run(plan, out, LawBench(), resume=True).calibration
    (caught,) = calibration.protocol.faster_than_peak
    assert f"decode, batch size {victim['batch_size']}, new tokens 1" in caught
    assert "1.00 µs in round 1" in caught
    assert calibration.decode.holdout.mean_ratio < 0.01
    assert caught in "\n".join(warnings(calibration))


def test_a_point_that_does_not_fit_is_skipped_and_flagged(plan, tmp_path):
    largest = max((p for p in plan.points if p.role == "fit" and p.kind == "decode"), key=lambda p: p.kv_entries)
    outcome = run(plan, tmp_path / "x.json", LawBench(too_large=largest))
    assert outcome.written
    (skipped,) = outcome.calibration.protocol.skipped
    assert skipped.startswith(f"decode, batch size {largest.batch_size}")
    assert skipped.endswith("out of memory")
    assert "out of memory" in "\n".join(warnings(outcome.calibration))


def test_samples_of_other_hardware_are_refused_and_kept(plan, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(plan, tmp_path / "x.json", LawBench(dies_after=9))
    before = (tmp_path / "x.samples.jsonl.part").read_text()
    other = replace(plan, hardware=plan.hardware.model_copy(update={"name": "Abacus"}))
    with pytest.raises(CalibrationError, match=r"another hardware.*name: .*Xeon.* there, .*Abacus.* now"):
        run(other, tmp_path / "x.json", LawBench(), resume=True)
    assert (tmp_path / "x.samples.jsonl.part").read_text() == before


def test_runs_of_one_machine_merge_and_others_are_refused(plan, tmp_path):
    a, b, c = (tmp_path / f"{name}.json" for name in "abc")
    run(plan, a, LawBench())
    run(plan, b, LawBench())
    c.write_text(b.read_text().replace(MACHINE.name, "Abacus"))
    merged = merge([a, b], tmp_path / "ab.json").calibration
    one = load_calibration(a)
    assert merged.protocol.visits == one.protocol.visits + load_calibration(b).protocol.visits
    assert load_evidence(tmp_path / "ab.json").calibration == merged
    assert merged.decode.holdout.points == one.decode.holdout.points
    with pytest.raises(CalibrationError, match=r"another hardware than .*: name is 'Abacus' there"):
        merge([a, c], tmp_path / "ac.json")
    assert not (tmp_path / "ac.json").exists()
    with pytest.raises(CalibrationError, match="--merge: name two profiles"):
        merge([a], tmp_path / "x.json")


def test_what_one_run_fitted_is_not_held_out_by_the_merged_profile(plan, tmp_path):
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    moved = next(point for point in plan.points if (point.kind, point.role) == ("decode", "fit"))
    other = replace(plan, points=[replace(one, role="holdout") if one == moved else one for one in plan.points])
    run(plan, a, LawBench())
    run(other, b, LawBench())
    merged = merge([a, b], tmp_path / "ab.json").calibration
    assert load_calibration(b).decode.holdout.points == load_calibration(a).decode.holdout.points + 1
    assert merged.decode.holdout.points == load_calibration(a).decode.holdout.points


def test_device_seconds_are_compared_without_the_hosts_gap():
    evidence = load_evidence(SHIPPED)
    gap = HostGap(per_iteration_s=1.0, per_sequence_s=0.0, how="planted")
    planted = evidence.calibration.model_copy(update={"host_gap": gap})
    assert gather(planted, evidence.measured).comparisons == evidence.comparisons


def test_copies_ceilings_and_whole_calls_are_in_the_profile(plan, tmp_path):
    calibration = run(plan, tmp_path / "x.json", LawBench()).calibration
    assert calibration.copies["host"].copy_s(10**8) == pytest.approx(0.01, rel=0.02)
    assert calibration.hardware.ceilings.read_bytes_per_s == pytest.approx(1e12, rel=0.02)
    assert calibration.host_gap.per_iteration_s == 0
    assert len(calibration.end_to_end) == sum(extra.kind == "generate" for extra in plan.extras) >= 4


def test_a_budget_that_is_too_short_keeps_what_it_measured(plan, tmp_path):
    with pytest.raises(CalibrationError, match=r"--budget-s: .*fewer than 3 visits.*--resume"):
        run(plan, tmp_path / "x.json", LawBench(), budget_s=-1)
    assert [path.name for path in tmp_path.iterdir()] == ["x.samples.jsonl.part"]


def test_the_budget_ends_the_rounds(plan, tmp_path):
    bench, file = LawBench(noise=0.5), SampleFile(tmp_path / "x.part")
    stopped = measure(
        bench,
        plan.points,
        plan.extras,
        file,
        Measurements(),
        budget_s=30,
        seed=0,
        tell=lambda _: None,
        clock=lambda: bench.now_s,
    )
    assert stopped == "budget"
    assert bench.now_s == pytest.approx(30, abs=1)


def test_a_settled_point_sits_out(plan, tmp_path):
    """Once intervals are narrow only the one noisy point is visited again."""
    noisy = plan.points[5]

    class OneNoisyPoint(LawBench):
        def visit(self, point, target_s):
            self.noise = 0.3 if point == noisy else 0.001
            return super().visit(point, target_s)

    bench, measured = OneNoisyPoint(), Measurements()
    measure(
        bench, plan.points, (), SampleFile(tmp_path / "x"), measured, budget_s=16, seed=0,
        tell=lambda _: None, clock=lambda: bench.now_s,
    )  # fmt: skip
    counts = {point: [visit.point for visit in measured.visits].count(point) for point in plan.points}
    assert counts[noisy] > 2 * np.median(list(counts.values()))


def test_a_law_that_does_not_predict_is_not_published(plan, tmp_path):
    outcome = run(plan, tmp_path / "x.json", LawBench(surprise=1.3))
    assert outcome.written is None
    assert outcome.samples.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["x.samples.jsonl.part"]


def test_hardware_names_make_short_file_names():
    names = {
        "AMD EPYC": "epyc-2t",
        "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz": "xeon-platinum-8481c-2t",
        "AMD EPYC 7763 64-Core Processor": "epyc-7763-2t",
        "aarch64": "aarch64-2t",
    }
    assert {name: hardware_slug(MACHINE.model_copy(update={"name": name})) for name in names} == names
    gpu = MACHINE.model_copy(update={"name": "NVIDIA A100-SXM4-80GB", "device": "cuda"})
    assert hardware_slug(gpu) == "a100-sxm4-80gb"


def test_a_model_too_large_for_the_machine_is_refused_before_it_is_built():
    with pytest.raises(CalibrationError, match=r"llama-3.1-8b in fp32 needs 29.9 GiB.*16.0 GiB"):
        make_plan(choose("llama-3.1-8b", None, 1, ""), MACHINE, SOFTWARE, dtype="fp32", limits=SMALL, seed=0)


def test_the_shipped_profile_is_what_its_samples_say():
    """Refitting the published raw measurements gives the published profile, to the digit."""
    shipped = load_calibration(SHIPPED)
    packed = SHIPPED.with_name(shipped.samples.file).read_bytes()
    assert hashlib.sha256(packed).hexdigest() == shipped.samples.sha256
    measured = read_samples_csv(packed)
    points = list(dict.fromkeys(visit.point for visit in measured.visits))
    plan = Plan(shipped.hardware, shipped.software, shipped.model, shipped.protocol.seed, points)
    refitted = fit_calibration(plan, measured, shipped.protocol.stopped, shipped.samples)
    assert refitted.protocol == shipped.protocol
    for law, again in ((shipped.prefill, refitted.prefill), (shipped.decode, refitted.decode)):
        assert (again.form, again.box) == (law.form, law.box)
        assert [knot.step_s.value for knot in again.knots] == pytest.approx([knot.step_s.value for knot in law.knots])
        assert again.kv_entry_s.value == pytest.approx(law.kv_entry_s.value)
        assert again.holdout.mean_ratio == pytest.approx(law.holdout.mean_ratio)


def test_user_errors_are_one_line_and_code_2(capsys, monkeypatch):
    for arguments, complaint in (
        (["--model", "gpt-2"], "'gpt-2' is not known"),
        (["--shape", "layers=2"], "--shape: heads, hidden, intermediate, vocab missing"),
        (["--shape", "layers=2", "--model", "cpu-25m"], "--shape: cannot be combined with --model"),
        (["--tp", "0"], "--tp: is 0"),
        (["--tp", "3"], "--tp: num_heads 8 cannot be divided by 3"),
        (["--merge", "a.json"], "--merge: name two profiles or more"),
        (["--budget-s", "0"], "--budget-s: is 0; write a number above 0"),
        (["--threads", "-1"], "--threads: is -1"),
    ):
        monkeypatch.setattr(hardware, "choose_device", lambda _: "cpu")
        monkeypatch.setattr(hardware, "describe", lambda *_: (MACHINE, SOFTWARE))
        assert command.main(arguments) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("error: ")
        assert complaint in printed.err
        assert printed.err.count("\n") == 1


def test_without_torch_the_command_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert command.main([]) == 2
    assert "pip install -e '.[calibrate]'" in capsys.readouterr().err


def test_ctrl_c_is_code_130(capsys):
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert run_command(interrupted) == 130


@pytest.mark.parametrize(("surprise", "code"), [(1.0, 0), (1.3, 1)])
def test_the_command_reports_and_says_whether_it_wrote(tmp_path, monkeypatch, capsys, surprise, code):
    monkeypatch.setattr(hardware, "choose_device", lambda _: "cpu")
    monkeypatch.setattr(hardware, "describe", lambda *_: (MACHINE, SOFTWARE))
    monkeypatch.setattr(hardware, "build_bench", lambda *_, **__: LawBench(surprise=surprise))
    monkeypatch.setitem(command.LIMITS, "cpu", SMALL)
    out = tmp_path / "x.json"
    assert command.main(["--out", str(out), "--budget-s", "3", "--threads", "2"]) == code
    report = capsys.readouterr().out
    assert "held-out error" in report
    assert out.exists() == (code == 0)
    assert (tmp_path / "x.png").exists() == (code == 0)
    assert ("wrote" in report) == (code == 0)
    assert ("no profile written" in report) == (code == 1)


@pytest.mark.parametrize("out", [".", "file/p.json"])
def test_a_place_that_cannot_be_written_is_found_before_measuring(tmp_path, monkeypatch, capsys, out):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hardware, "choose_device", lambda _: "cpu")
    monkeypatch.setattr(hardware, "describe", lambda *_: (MACHINE, SOFTWARE))
    monkeypatch.setattr(hardware, "build_bench", lambda *_, **__: pytest.fail("it measured first"))
    assert command.main(["--out", out]) == 2
    assert capsys.readouterr().err.count("\n") == 1


TINY_LIMITS = Limits((1, 2), max_context_tokens=128, max_batch_tokens=256, mixed=8)
TINY_COMMAND = f"""
import sys
from infertuner import calibrate
from infertuner.latency.models import MODELS, ModelConfig
from infertuner.latency.points import LIMITS, Limits
MODELS["tiny"], LIMITS["cpu"] = {TINY_MODEL}, {TINY_LIMITS}
sys.exit(calibrate.main())
"""


@pytest.mark.torch
def test_a_killed_calibration_on_real_hardware_is_resumed(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch", reason="needs infertuner[calibrate]")
    pytest.importorskip("transformers", reason="needs infertuner[calibrate]")
    out, part = tmp_path / "tiny.json", tmp_path / "tiny.samples.jsonl.part"
    arguments = ["--device", "cpu", "--model", "tiny", "--threads", "1", "--budget-s", "4", "--out", str(out)]
    killed = subprocess.Popen([sys.executable, "-c", TINY_COMMAND, *arguments], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (part.exists() and len(part.read_text().splitlines()) > 10):
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    before = part.read_text().rpartition("\n")[0].splitlines()
    assert len(before) > 10

    monkeypatch.setitem(command.MODELS, "tiny", TINY_MODEL)
    monkeypatch.setitem(command.LIMITS, "cpu", TINY_LIMITS)
    code = command.main([*arguments, "--resume"])
    if code == 0:
        assert load_calibration(out).protocol.visits >= len(before)
        assert not part.exists()
    else:  # a machine this slow or noisy allows no profile: then everything is kept
        printed = capsys.readouterr()
        assert "no profile written" in printed.out or "fewer than 3 visits" in printed.err
        assert part.read_text().splitlines()[: len(before)] == before
