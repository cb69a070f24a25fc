"""What a batch costs: the model alone at each size, and the line a·n + b through it."""

from __future__ import annotations

from tests.perf.context import Bench, Found
from tests.perf.programs.ceiling import Ceiling
from tests.perf.report.figures import Chart, Figure, Line, Panel
from tests.perf.report.maths import fit_relative
from tests.perf.stack import AS_CHOSEN, ON_EVERY_CORE, PLAIN_TORCH

MODEL = "bench-mobilenet"
SIZES = (1, 2, 4, 8, 16, 24, 32)


def measure(bench: Bench) -> Found:
    """Time batches of each size in turns, in plain torch and as Headrace chooses."""
    found = Found(settings=dict(bench.settings))
    rates: list[Line] = []
    times: list[Line] = []
    for side, chosen in (("plain torch", PLAIN_TORCH), ("as chosen", AS_CHOSEN)):
        data = {"HEADRACE_DATA_DIR": str(bench.alone)}
        settings = {**bench.settings, **ON_EVERY_CORE, **chosen, **data}
        with Ceiling(MODEL, 1, settings) as ceiling:
            taken_ms = ceiling.batch_ms(SIZES, bench.either(40, 5))
        fit = fit_relative(list(taken_ms), list(taken_ms.values()))
        bench.say(f"{side}: {fit.slope:.2f} ms a picture and {fit.intercept:.2f} ms a batch; {taken_ms}")
        x = [float(size) for size in taken_ms]
        rates.append(Line(label=side, x=x, y=[size * 1000 / ms for size, ms in taken_ms.items()]))
        rates.append(Line(label="n / (a n + b)", x=x, y=[n * 1000 / max(fit.at(n), 1e-9) for n in x], fit=True))
        times.append(Line(label=side, x=x, y=list(taken_ms.values())))
        times.append(Line(label=f"{fit.slope:.2f} n + {fit.intercept:.2f}", x=x, y=[fit.at(n) for n in x], fit=True))
        command = f"`python -m tests.perf.programs.ceiling {MODEL} 0`, one core"
        found.figures += [
            Figure(what=f"`{MODEL}` alone on one core, {side}: a, each picture", unit="ms", values=[fit.slope],
                   command=command),
            Figure(what=f"… {side}: b, each batch", unit="ms", values=[fit.intercept], command=command),
            *(Figure(what=f"… {side}: batches of {size}", unit="per_s", command=command, higher_is_better=True,
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
