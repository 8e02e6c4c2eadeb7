"""Accuracy against what pre-training cost: measured points, published ones, and the Pareto front."""

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from micl_bench.records.names import arch_label, family, same_method
from micl_bench.records.published import Reference, measures
from micl_bench.records.result import Record, Result
from micl_bench.report.figures.comparable import comparable
from micl_bench.report.frame.entries import entry_of, values_of
from micl_bench.report.frame.identity import Identity
from micl_bench.report.frame.lineage import Lineage, hardware_of
from micl_bench.report.frame.long import grouped
from micl_bench.report.frame.naming import method_rank
from micl_bench.report.frame.protocols import label_share
from micl_bench.report.frame.selection import Selection
from micl_bench.report.tables.pretraining_columns import is_cost_of
from micl_bench.report.tables.row_names import name_rows

Axis = Literal["device-hours", "epochs"]
AXES: tuple[Axis, ...] = ("device-hours", "epochs")
_DEVICE = r"[A-Z]+\d+\w*|TPU-v\d+"
_DEVICES = re.compile(rf"(\d+)\s?x\s+({_DEVICE})", re.ASCII)
_UNITS = {"wall_hours": 1.0, "wall_days": 24.0}
_PRETRAIN_DATA = "ImageNet-1K"
"""The images of published points: others, or labels, would be another cost."""
_FEWEST_PUBLISHED = 3
_LABELS = {None: 1.0, "1 %": 0.01, "10 %": 0.1}
"""Shares of the training labels, by the words of published numbers; None for all."""
_Spent = tuple[Reference, float]
"""A published cost, and its device-hours."""


class Point(NamedTuple):
    """The cost of one network's pre-training, and its score."""

    label: str
    method: str
    cost: float
    value: float
    interval: tuple[float, float] | None = None
    seeds: str = ""
    """The seeds that the value is a mean over, in words; empty for one run."""
    source: str = ""
    """The source of a published point; empty for a measured one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """Points that may stand on one pair of axes."""

    place: tuple[int, str]
    """Place and name of the task."""
    title: str
    """The task and the images."""
    header: str
    """Title of the metric, with its unit."""
    axis: Axis
    hardware: str
    """The hardware whose hours the axis counts; empty for epochs."""
    protocol: str
    """The protocol of the measured points; without any, the common facts of the published ones."""
    measured: list[Point]
    published: list[Point]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the (cost, value) that no other point beats, by rising cost.

    A point is beaten by one that costs no more and scores no less, and differs in one of them. Equal
    points do not beat each other.
    """
    front: list[int] = []
    best, cost_of_best = -math.inf, math.inf
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        cost, value = points[index]
        if value > best or (value == best and cost == cost_of_best):
            front.append(index)
            best, cost_of_best = value, cost
    return front


def cost_panels(selection: Selection, references: Sequence[Reference], axis: Axis) -> list[Panel]:
    """Return a panel for each task, data set, metric, protocol and, for hours, kind of hardware.

    Records whose weights do not name their pre-training, or whose pre-training has no record here with
    its hours, have no point. Published points stand only beside the same public set and metric,
    and, for hours, only where the device is the same.
    """
    lineage = Lineage(selection.records)
    known = {one.id: found for one in selection.current if (found := _cost(one, lineage, axis))}
    frame = comparable(selection)
    # Shifted sets, which are used like no public one, have a figure of their own.
    is_shifted = frame["result"].map(lambda record: not record.about.public_set).astype(bool)
    is_drawn = frame["speaks"] & frame["downstream"] & (frame["better"] == "higher") & ~is_shifted
    frame = frame[is_drawn & frame["id"].isin(known.keys())]
    hardware_used = frame["id"].map(lambda identity: known[identity][1])
    spent = _device_costs(references)
    panels = []
    for (group, hardware), own in frame.groupby(["group", hardware_used], sort=False):
        networks: dict[Identity, list[Record]] = grouped(own, "network")
        if points := _measured(group.metric, networks, known):
            alike = _alike(references, [runs[0] for runs in networks.values()])
            where = (group.place[1], family(group.data), group.metric)
            panel = Panel(
                place=group.place,
                title=group.title,
                header=group.header,
                axis=axis,
                hardware=hardware,
                protocol=group.protocol,
                measured=points,
                published=_published(alike, where, axis, spent.get(_device_in(hardware), [])),
            )
            panels.append(panel)
    # Those with most to compare first.
    return sorted(
        panels, key=lambda p: (-min(len(p.measured), 2), p.place, p.title, p.protocol, p.header)
    )


def published_panels(references: Sequence[Reference], axis: Axis) -> list[Panel]:
    """Return panels of published points: one per task, share of labels, architecture, input and device.

    Those with fewer than three points are left out.
    """
    spent = _device_costs(references) if axis == "device-hours" else {"": []}
    groups: dict[tuple[tuple[str, str, str], str, int | None, object], list[Reference]] = {}
    for reference in references:
        if reference.kind.short and reference.facts.better == "higher":
            arch = "" if axis == "device-hours" else reference.arch
            key = (
                measures(reference),
                arch,
                reference.resolution,
                reference.settings.get("labels"),
            )
            groups.setdefault(key, []).append(reference)
    panels = []
    for (where, arch, size, labels), alike in groups.items():
        words = [arch, f"{size} px" if size else "input size not stated"]
        words += [f"{labels} of the labels"] if labels else []
        for device, costs in spent.items():
            points = _published(alike, where, axis, costs)
            if len(points) >= _FEWEST_PUBLISHED:
                panel = Panel(
                    place=(alike[0].kind.place, where[0]),
                    title=f"{alike[0].kind.short}, {where[1]}",
                    header=alike[0].facts.header,
                    axis=axis,
                    hardware=device,
                    protocol=", ".join(filter(None, words)),
                    measured=[],
                    published=points,
                )
                panels.append(panel)
    return sorted(
        panels, key=lambda p: (-len(p.published), p.place, p.title, p.hardware, p.protocol)
    )


def _cost(result: Result, lineage: Lineage, axis: Axis) -> tuple[float, str] | None:
    """Return the cost of all pre-training behind a result's weights, and the hardware of these hours."""
    stages = [stage for stage in result.checkpoint.origin if stage.task == "pretrain"]
    if not stages or any(stage.stated for stage in stages):
        return None
    if axis == "epochs":
        return math.fsum(stage.epochs for stage in stages), ""
    known = [record for stage in stages if (record := lineage.record_of(stage))]
    hardware = {hardware_of(record.environment) for record in known}
    if len(known) < len(stages) or len(hardware) > 1:
        return None
    return math.fsum(record.device_hours for record in known), hardware.pop()


def _measured(
    metric: str, networks: dict[Identity, list[Record]], known: dict[str, tuple[float, str]]
) -> list[Point]:
    names = name_rows((network, runs[0]) for network, runs in networks.items())
    several_archs = len({network.arch for network in networks}) > 1
    points = []
    for network, runs in networks.items():
        entry = entry_of(metric, runs)
        spent = values_of(entry.runs, [known[run.id][0] for run in entry.runs])
        if math.isfinite(entry.mean):
            point = Point(
                label=names[network] + (f", {arch_label(network.arch)}" if several_archs else ""),
                method=network.method,
                cost=math.fsum(spent) / len(spent),
                value=entry.mean,
                interval=entry.interval,
                seeds=entry.seeds,
            )
            points.append(point)
    return sorted(points, key=lambda point: (method_rank(point.method), point.cost, point.label))


def _alike(references: Sequence[Reference], results: Sequence[Result]) -> list[Reference]:
    """Return published numbers of the results' architectures, input sizes and share of labels."""
    shares = {words for words, share in _LABELS.items() if label_share(results[0]) == share}
    archs = {arch_label(result.arch) for result in results}
    sizes = {result.settings.get("img_size") for result in results}
    return [
        reference
        for reference in references
        if arch_label(reference.arch) in archs
        and reference.resolution in sizes
        and reference.settings.get("labels") in shares
    ]


def _published(
    references: Iterable[Reference], where: tuple[str, str, str], axis: Axis, costs: list[_Spent]
) -> list[Point]:
    """Return published points of one task, data family and metric.

    Of several published values of one network and cost the ledger's first is taken.
    """
    points: dict[tuple[str, float], Point] = {}
    references = list(references)
    several_archs = len({arch_label(reference.arch) for reference in references}) > 1
    for reference in references:
        if measures(reference) != where or reference.pretrain_data != _PRETRAIN_DATA:
            continue
        cost = reference.pretrain_epochs if axis == "epochs" else _joined(reference, costs)
        if cost is not None:
            method = same_method(reference.method)
            # Beside measured points and in panels of one architecture the others are not there.
            label = f"{method}, {reference.arch}" if several_archs else method
            point = Point(label, method, cost, reference.value, source=reference.source)
            points.setdefault((label, cost), point)
    return sorted(points.values(), key=lambda point: (point.cost, -point.value, point.label))


def _device_costs(references: Sequence[Reference]) -> dict[str, list[_Spent]]:
    """Return published device-hours by device, where number and kind of the devices are stated."""
    found: dict[str, list[_Spent]] = {}
    for reference in references:
        if reference.task != "pretrain_cost" or "per 100 epochs" in reference.protocol:
            continue
        if reference.metric == "gpu_hours" and re.fullmatch(_DEVICE, reference.protocol):
            found.setdefault(reference.protocol, []).append((reference, reference.value))
        elif reference.metric in _UNITS and (stated := _DEVICES.match(reference.protocol)):
            hours = int(stated[1]) * reference.value * _UNITS[reference.metric]
            found.setdefault(stated[2], []).append((reference, hours))
    return found


def _device_in(hardware: str) -> str:
    """Return the ledger's name of a device, or nothing: `A100` for `NVIDIA A100-SXM4-80GB`."""
    words = re.findall(_DEVICE, hardware)
    return next((word for word in words if re.fullmatch(r"[A-Z]\d{2,3}\w*|TPU-v\d+", word)), "")


def _joined(score: Reference, costs: list[_Spent]) -> float | None:
    """Return the hours of a score's pre-training: same network, images and epochs; None in doubt.

    Where variants cost differently, only one whose words are the score's counts.
    """
    same = [(cost, hours) for cost, hours in costs if is_cost_of(cost, score)]
    if len({hours for _, hours in same}) > 1:
        same = [
            (cost, hours)
            for cost, hours in same
            if (words := cost.protocol.partition("; ")[2]) and words in score.protocol
        ]
    hours_of = {hours for _, hours in same}
    return hours_of.pop() if len(hours_of) == 1 else None
