"""The parts of `make bench` that are about runtimes: their tables, kinds of processors, and what consumers run."""

from __future__ import annotations

import pytest

from consumer.runtimes.instructions import Processor
from tests.perf import scrape
from tests.perf.report import document, kinds, tables
from tests.perf.report.runtime_columns import PLAIN, SIZES, Column, Outcome
from tests.perf.sections import peers, runtimes
from tests.unit.test_bench import figure, results, section, table, window


def outcome(*more: Column) -> Outcome:
    def rates(at_eight: float) -> dict[int, list[float]]:
        return {size: [at_eight, at_eight * 2, at_eight * 3] for size in SIZES}

    columns = [
        Column(runtime=PLAIN, precision="fp32", rates=rates(100.0)),
        Column(runtime="onnxruntime", precision="fp32", rates=rates(400.0)),
        Column(runtime="openvino", precision="bf16", rates=rates(700.0)),
        Column(runtime="onnxruntime", precision="int8", rates=rates(9000.0), refused="its outputs differ."),
        Column(runtime="openvino", precision="int8", refused="it cannot be quantised."),
    ]
    return Outcome(kind="AVX2", columns=[*columns, *more])


def test_the_table_of_runtimes_has_a_column_for_each_that_ran() -> None:
    starts = {("onnxruntime", "fp32"): runtimes.Start([0.5, 0.7, 0.6], [2e8], "not imported")}
    made = runtimes.table("m", outcome(), starts)
    assert made.columns == [f"{PLAIN}, fp32", "onnxruntime, fp32", "openvino, bf16", "onnxruntime, int8"]
    assert made.lines[0].values == [200.0, 800.0, 1400.0, 18000.0]
    assert made.lines[-2].values == [None, 0.6, None, None]
    assert "openvino, int8: it cannot be quantised." in made.remarks[0]
    assert made.remarks[1] == "Started without importing torch: onnxruntime, fp32."


def test_a_runtime_that_is_refused_does_not_count_as_the_fastest() -> None:
    exact, any_precision = runtimes.figures(outcome())
    assert exact.values == [4.0, 4.0, 4.0]
    assert exact.limit == 3.0
    assert any_precision.values == [7.0, 7.0, 7.0]


def test_what_stands_on_the_page_of_runtimes() -> None:
    measured = section(name="runtimes", kind="AVX2", tables=[table()], figures=[figure(limit=11.0)])
    part = tables.runtimes_part(results(measured))
    assert "A|B processor" in part
    assert "**missed**" in part
    with pytest.raises(ValueError, match="make bench"):
        tables.runtimes_part(results(section()))


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (Processor("x86_64", frozenset({"avx512_bf16"}), "AVX512", frozenset({"bf16"})), "AVX-512, with bf16"),
        (Processor("x86_64", frozenset({"amx_bf16"}), "AVX512", frozenset({"bf16"})), "AVX-512, with bf16 and AMX"),
        (Processor("x86_64", frozenset(), "AVX512", frozenset({"bf16"})), "AVX-512, without bf16"),
        (Processor("x86_64", frozenset({"avx512_bf16"}), "AVX2", frozenset({"bf16"}), "AVX2"), kinds.AVX2),
        (Processor("aarch64", frozenset(), "SVE256", frozenset({"bf16"})), "aarch64 (SVE256), with bf16"),
    ],
)
def test_processors_have_a_kind(made: Processor, named: str) -> None:
    assert kinds.kind(made) == named


def test_a_table_made_with_instructions_forbidden_says_so() -> None:
    assert kinds.remarks({}, False) == []
    assert not kinds.is_narrowed({"ONEDNN_MAX_CPU_ISA": ""})
    [remark] = kinds.remarks({"ONEDNN_MAX_CPU_ISA": "AVX2"}, False)
    [other] = kinds.remarks({"ONEDNN_MAX_CPU_ISA": "AVX2"}, True)
    assert "copies" in other
    assert "copies" not in remark
    assert "`ONEDNN_MAX_CPU_ISA=AVX2`" in remark
    assert "MLAS" in remark


def test_echo_is_held_against_mosec_where_it_is_best() -> None:
    rates = {}
    for contest in peers.CONTESTS:
        ours = {32: 30.0, 64: 50.0, 128: 40.0}.get(contest.connections, 1.0)
        rates[contest, "Headrace"] = [window(rate_per_s=ours)]
        rates[contest, "mosec"] = [window(rate_per_s=100.0)]
    best = peers.best_echo(rates)
    assert best.values == [0.5]
    assert best.limit == peers.ECHO_LIMIT
    assert "(64)" in best.what


def test_what_a_tuned_consumer_runs_is_read_from_its_metrics() -> None:
    labels = (("model", "m"), ("precision", "bf16"), ("runtime", "openvino"))
    samples = {
        ("headrace_model_info", labels): 1.0,
        ("headrace_batch_preferred_rows", (("model", "m"),)): 8.0,
        ("headrace_model_tuned", (("model", "m"),)): 0.0,
    }
    assert scrape.running(samples) == ""
    samples["headrace_model_tuned", (("model", "m"),)] = 1.0
    assert scrape.running(samples) == "openvino in bf16, 8 rows"


def test_the_part_of_one_kind_of_processor_leaves_the_others() -> None:
    begin, end = document.RUNTIMES
    text = f"before\n{begin}\n\n{end}\nafter\n"
    one = document.replace_part(text, "ARM", "first")
    both = document.replace_part(one, "AVX2", "| a |\n\n- b")
    assert both == f"before\n{begin}\n\n### ARM\n\nfirst\n\n### AVX2\n\n| a |\n\n- b\n\n{end}\nafter\n"
    again = document.replace_part(both, "ARM", "second")
    assert again == both.replace("first", "second")
    assert document.replace_part(again, "ARM", "second") == again
    ordered = document.replace_part(again, "Zen", "third", document.RUNTIMES, ("Zen", "AVX2"))
    assert [line for line in ordered.splitlines() if line.startswith("###")] == ["### Zen", "### AVX2", "### ARM"]
    with pytest.raises(ValueError, match="once each"):
        document.replace_part("nothing", "ARM", "first")
