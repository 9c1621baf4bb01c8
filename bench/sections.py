"""The sections of the benchmark. A new one is a module with a `Section`, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench import (
    evaluate_section,
    model_section,
    oip_section,
    serve_section,
    swap_section,
    train_section,
    triton_section,
)
from bench.plan import Plan
from bench.results import Row
from bench.targets import Target


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
        name: As in the results.
        run: Measures what the plan says, and tells what happens.
        targets: What its rows must show.
        notes: What a reader of its numbers has to know.
    """

    name: str
    run: Callable[[Plan, Callable[[str], None]], list[Row]]
    targets: tuple[Target, ...]
    notes: tuple[str, ...] = ()


SECTIONS = {
    section.name: section
    for section in (
        Section(serve_section.SECTION, serve_section.run, serve_section.TARGETS, serve_section.NOTES),
        Section(triton_section.SECTION, triton_section.run, triton_section.TARGETS, triton_section.NOTES),
        Section(oip_section.SECTION, oip_section.run, oip_section.TARGETS, oip_section.NOTES),
        Section(swap_section.SECTION, swap_section.run, swap_section.TARGETS, swap_section.NOTES),
        Section(model_section.SECTION, model_section.run, model_section.TARGETS, model_section.NOTES),
        Section(evaluate_section.SECTION, evaluate_section.run, evaluate_section.TARGETS, evaluate_section.NOTES),
        Section(train_section.SECTION, train_section.run, train_section.TARGETS, train_section.NOTES),
    )
}
