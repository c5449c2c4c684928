"""An attribute agreement study as one page."""

from __future__ import annotations

from collections.abc import Iterator

from edge_inspector.page.sheet import sheet, table, tag
from edge_inspector.studies.agreement_rates import Kappa, Rate
from edge_inspector.studies.grr import GOOD_KAPPA, POOR_KAPPA, Appraiser, Study

SOURCE = (
    "After AIAG, Measurement Systems Analysis, 4th edition, chapter III section C. Intervals are "
    "95 %: Clopper and Pearson for rates, resampled units for kappa. Decisions on one unit depend "
    "on each other, so those of miss and false alarm rates are narrower than the truth."
)
HEADINGS = ("appraiser", "what", "found", "of", "value", "95 % interval")


def grr_page(study: Study) -> str:
    """The page."""
    return sheet("Attribute agreement study", _body(study))


def _body(study: Study) -> Iterator[str]:
    yield tag("h1", "Attribute agreement study")
    for appraiser in study.appraisers:
        yield tag("p", sentence(appraiser))
    yield table(HEADINGS, rows(study))
    if study.torn:
        yield tag("h2", "Units judged both ways")
        yield table(
            ("unit", "judgements"), [(unit, counts_text(said)) for unit, said in study.torn]
        )
    yield tag("p", SOURCE, "dim")


def sentence(appraiser: Appraiser) -> str:
    """One appraiser's result in words."""
    text = (
        f"{appraiser.name}: {appraiser.judgements} judgements on {appraiser.units} units, "
        f"{appraiser.uninspected} of them uninspected; the same each time on "
        f"{appraiser.within.events} units"
    )
    if appraiser.kappa.value is not None:
        text += f" ({_agreement(appraiser.kappa.value)})"
    if appraiser.against is not None:
        text += f". Against the reference: {appraiser.against.grade}"
    if appraiser.score_spread is not None:
        text += f". A unit's score spreads by {appraiser.score_spread:.3g} when it is judged again"
    return text + "."


def rows(study: Study) -> Iterator[tuple[object, ...]]:
    """Every rate and kappa as a row under `HEADINGS`."""
    for one in study.appraisers:
        yield _rate(one.name, "within: units judged alike", one.within)
        yield _kappa(one.name, "within: kappa (Fleiss)", one.kappa)
        if one.against is not None:
            yield _rate(one.name, "effectiveness: units judged right", one.against.effectiveness)
            yield _rate(one.name, "miss rate: defective, passed", one.against.miss)
            yield _rate(one.name, "false alarm rate: good, not passed", one.against.false_alarm)
            yield _kappa(one.name, "reference: kappa (Cohen)", one.against.kappa)
    for pair in study.between:
        name = " and ".join(pair.names)
        yield _rate(name, "between: units judged alike", pair.agreed)
        yield _kappa(name, "between: kappa (Cohen)", pair.kappa)


def counts_text(said: dict[str, int]) -> str:
    """`2 pass, 1 fail`."""
    return ", ".join(f"{count} {outcome}" for outcome, count in said.items())


def _rate(name: str, what: str, rate: Rate) -> tuple[object, ...]:
    value = "" if rate.value is None else f"{rate.value:.1%}"
    bounds = "" if rate.bounds is None else f"{rate.bounds[0]:.1%} to {rate.bounds[1]:.1%}"
    return name, what, rate.events, rate.trials, value, bounds


def _kappa(name: str, what: str, kappa: Kappa) -> tuple[object, ...]:
    value = "undefined, all alike" if kappa.value is None else f"{kappa.value:.2f}"
    bounds = "" if kappa.bounds is None else f"{kappa.bounds[0]:.2f} to {kappa.bounds[1]:.2f}"
    return name, what, "", "", value, bounds


def _agreement(kappa: float) -> str:
    if kappa > GOOD_KAPPA:
        return "good agreement"
    return "poor agreement" if kappa < POOR_KAPPA else "moderate agreement"
