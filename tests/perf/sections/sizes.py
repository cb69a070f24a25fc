"""What a batch costs: the model alone at each size, and the line a·n + b through it."""

from __future__ import annotations

from tests.perf.ceiling import Ceiling
from tests.perf.context import Bench, Found
from tests.perf.figures import Chart, Figure, Line, Panel
from tests.perf.maths import fit_relative
from tests.perf.stack import best_precision, on_every_core

MODEL = "bench-mobilenet"
SIZES = (1, 2, 4, 8, 16, 24, 32)


def measure(bench: Bench) -> Found:
    """Time batches of each size in turns, in fp32 and in the precision that Headrace chooses."""
    found = Found(settings=dict(bench.settings))
    rates: list[Line] = []
    times: list[Line] = []
    for precision in dict.fromkeys(("fp32", best_precision())):
        data = {"HEADRACE_DATA_DIR": str(bench.folder / f"sizes-{precision}")}
        settings = {**bench.settings, **on_every_core(precision), **data}
        with Ceiling(MODEL, 1, settings) as ceiling:
            taken_ms = ceiling.batch_ms(SIZES, bench.either(40, 5))
        fit = fit_relative(list(taken_ms), list(taken_ms.values()))
        bench.say(f"{precision}: {fit.slope:.2f} ms a picture and {fit.intercept:.2f} ms a batch; {taken_ms}")
        x = [float(size) for size in taken_ms]
        rates.append(Line(label=precision, x=x, y=[size * 1000 / ms for size, ms in taken_ms.items()]))
        rates.append(Line(label="n / (a n + b)", x=x, y=[n * 1000 / max(fit.at(n), 1e-9) for n in x], fit=True))
        times.append(Line(label=precision, x=x, y=list(taken_ms.values())))
        times.append(Line(label=f"{fit.slope:.2f} n + {fit.intercept:.2f}", x=x, y=[fit.at(n) for n in x], fit=True))
        command = f"`python -m tests.perf.ceiling {MODEL} 0`, one core"
        found.figures += [
            Figure(what=f"`{MODEL}` alone on one core, {precision}: a, each picture", unit="ms", values=[fit.slope],
                   command=command),
            Figure(what=f"… {precision}: b, each batch", unit="ms", values=[fit.intercept], command=command),
            *(Figure(what=f"… {precision}: batches of {size}", unit="per_s", command=command, higher_is_better=True,
                     values=[size * 1000 / taken_ms[size]]) for size in (1, 32)),
        ]  # fmt: skip
    found.charts.append(
        Chart(
            name="sizes",
            alt="Pictures a second and time per batch against the batch size, with fitted lines",
            panels=[
                Panel(title="Pictures a second", told=f"{MODEL} alone, one core; dashed: fitted", lines=rates,
                      x_label="batch size"),
                Panel(title="Time of a batch, ms", told="median; dashed: the line a·n + b", lines=times,
                      x_label="batch size"),
            ],
        )
    )  # fmt: skip
    return found
