"""Which sinks must drive nothing, said in one place."""

from __future__ import annotations

from edge_inspector.recipe import Recipe
from edge_inspector.settings import AssuredSink, Settings, SinkSettings


def observing(settings: Settings, recipe: Recipe) -> bool:
    """Whether the whole station only observes: the settings, `run --observe` or the recipe say so."""
    return settings.observe or recipe.observe


def quiet(sink: SinkSettings, settings: Settings, recipe: Recipe) -> bool:
    """Whether this sink must drive nothing: `assured` is flagged then, others are not opened."""
    return (sink.actuates or isinstance(sink, AssuredSink)) and (
        sink.observe or observing(settings, recipe)
    )


def quieted(settings: Settings, recipe: Recipe) -> Settings:
    """The settings that the daemon runs with: sinks that must drive nothing are flagged or gone."""
    sinks = [
        sink.model_copy(update={"observe": quiet(sink, settings, recipe)})
        for sink in settings.sinks
        if isinstance(sink, AssuredSink) or not quiet(sink, settings, recipe)
    ]
    return settings.model_copy(update={"sinks": tuple(sinks)})


def watches(settings: Settings, recipe: Recipe) -> bool:
    """Whether the incumbent's verdicts are kept: something observes, or an incumbent is polled."""
    return (
        observing(settings, recipe)
        or settings.incumbent is not None
        or any(sink.observe for sink in settings.sinks)
    )


def told(settings: Settings, recipe: Recipe) -> str:
    """What observing means for the sinks of this station, in words; empty where nothing observes."""
    silent = [sink for sink in settings.sinks if quiet(sink, settings, recipe)]
    whole = observing(settings, recipe)
    if not silent and not whole:
        return ""
    flagged = any(isinstance(sink, AssuredSink) for sink in silent)
    closed = [sink.type for sink in silent if not isinstance(sink, AssuredSink)]
    driving = [s.type for s in settings.sinks if s.actuates and s not in silent]
    parts = ["every unit is judged and logged" + (", its verdict is advisory" if whole else "")]
    parts += ["verdicts to line controllers are flagged test, so that no gate opens"] * flagged
    parts += [f"not opened: {', '.join(closed)}"] if closed else []
    parts += [f"still driving: {', '.join(driving)}"] if driving else ["nothing is driven"]
    return "; ".join(parts)
