"""Accuracy against cost: the Pareto front against its definition, points against their records."""

import dataclasses
import functools
import random
from collections.abc import Sequence

import pytest
from matplotlib.figure import Figure
from pretrainings import A100, Trainings
from synthetic_results import changed
from tables_of import IMAGENET, published

from micl_bench.records.published import Reference, read_references
from micl_bench.records.statistics import t_interval, wilson
from micl_bench.report.figures.cost_plot import cost_scatter, found_cost, shown_points
from micl_bench.report.figures.cost_points import (
    Axis,
    Panel,
    cost_panels,
    pareto_front,
    published_panels,
)
from micl_bench.report.figures.render import rendered

reference = functools.partial(
    published, task="imagenet_linear", protocol="linear", value=68.0, source="a paper, Table 1"
)


@pytest.mark.parametrize("seed", range(30))
def test_the_front_is_all_that_no_point_beats(seed: int) -> None:
    rng = random.Random(seed)
    # Few values, so that there are ties of all kinds.
    points = [(rng.randint(0, 6) / 2, rng.randint(0, 6) * 1.0) for _ in range(rng.randint(0, 25))]

    def beaten(one: tuple[float, float]) -> bool:
        return any(other[0] <= one[0] and other[1] >= one[1] and other != one for other in points)

    expected = {i for i, point in enumerate(points) if not beaten(point)}
    front = pareto_front(points)
    assert set(front) == expected
    assert len(front) == len(expected)
    assert [points[i] for i in front] == sorted(points[i] for i in front)


def panels_of(
    made: Trainings, task: str, axis: Axis = "device-hours", published: Sequence[Reference] = ()
) -> list[Panel]:
    return [p for p in cost_panels(made.selection, published, axis) if p.place[1] == task]


def test_a_point_is_a_mean_over_seeds_at_the_mean_cost() -> None:
    made = Trainings()
    for seed, (top1, hours) in enumerate([(80.0, 1.0), (82.0, 1.5), (81.0, 2.0)]):
        made.add(top1, seed=seed, hours=hours)
    made.add(70.0, method="other", hours=4.0)
    (panel,) = panels_of(made, "knn")
    ours, other = panel.measured
    assert (ours.cost, ours.value, ours.seeds) == (1.5, 81.0, "3 seeds")
    assert ours.interval == pytest.approx(t_interval([80.0, 82.0, 81.0]))
    assert (other.cost, other.value, other.seeds) == (4.0, 70.0, "")
    assert other.interval == pytest.approx(wilson(70.0, 900))
    assert panel.hardware == "2 cores of a processor"


def test_a_training_costs_once_however_often_it_was_evaluated() -> None:
    made = Trainings()
    made.add(80.0, seed=0, hours=10.0)
    made.add(84.0, seed=1, hours=20.0)
    again = next(one for one in made.records if one.task == "knn")
    for seed in (1, 2, 3):
        made.records.append(changed(again, seed=seed, metrics={"top1": 80.0 + seed}))
    ((point,),) = (panel.measured for panel in panels_of(made, "knn"))
    assert (point.cost, point.value) == (15.0, (81.5 + 84.0) / 2)


def test_hours_of_two_kinds_of_hardware_share_no_panel_but_epochs_do() -> None:
    made = Trainings()
    made.add(80.0)
    made.add(85.0, environment=A100, epochs=20)
    assert sorted((p.hardware, len(p.measured)) for p in panels_of(made, "knn")) == [
        ("2 cores of a processor", 1),
        ("NVIDIA A100-SXM4-80GB", 1),
    ]
    (epochs,) = panels_of(made, "knn", "epochs")
    assert [(point.cost, point.value) for point in epochs.measured] == [(10, 80.0), (20, 85.0)]


def test_without_the_pre_training_s_record_there_are_no_hours() -> None:
    made = Trainings()
    made.add(80.0)
    made.add(82.0, epochs=20)
    made.records = [record for record in made.records if record.task != "pretrain"]
    found = found_cost(made.selection, [], "device-hours")
    assert not found.drawings
    assert "device-hours on one kind of hardware are known" in found.left_out[0]
    assert found_cost(made.selection, [], "epochs").drawings


def test_published_points_stand_beside_the_same_set_network_and_input_only() -> None:
    made = Trainings()
    made.add(66.0, data=IMAGENET, arch="vit_base_patch16_224", epochs=800)
    published = [
        reference(),
        reference(value=67.0, pretrain_epochs=800.0),
        reference(value=11.0),  # A second value of one network and cost.
        reference(value=12.0, arch="ViT-L/16"),
        reference(value=13.0, resolution=448),
        reference(value=14.0, pretrain_data="ImageNet-22K"),
        reference(value=15.0, pretrain_epochs=None),
        reference(value=16.0, task="imagenet_finetune"),
    ]
    (panel,) = panels_of(made, "linear", "epochs", published)
    assert [(p.cost, p.value) for p in panel.published] == [(800.0, 67.0), (1600.0, 68.0)]
    assert panels_of(made, "knn", "epochs", published)[0].published == []
    elsewhere = Trainings()
    elsewhere.add(66.0, arch="vit_base_patch16_224", epochs=800)
    assert all(not p.published for p in cost_panels(elsewhere.selection, published, "epochs"))


@pytest.mark.parametrize("share", [0.01, 0.1, 1.0])
def test_published_points_are_of_the_same_share_of_labels(share: float) -> None:
    made = Trainings()
    public = {"name": "imagenet", "split": "val", "images": 50_000, "digest": "a" * 64}
    made.add(60.0, data=public, arch="vit_small_patch16_224")
    settings: dict[str, object] = {"img_size": 224}
    if share < 1:
        settings["labels"] = {"drawn by seed, share of each class": share}
    made.records = [
        dataclasses.replace(one, task="logistic", settings=settings)
        for one in made.records
        if one.task == "linear"
    ]
    few = [("imagenet_1pct", 64.5, "1 %"), ("imagenet_10pct", 72.2, "10 %")]
    references = [
        reference(task=task, arch="ViT-S/16", value=value, settings={"labels": words})
        for task, value, words in few
    ]
    (panel,) = cost_panels(made.selection, references, "epochs")
    expected = {0.01: [64.5], 0.1: [72.2], 1.0: []}[share]
    assert [point.value for point in panel.published] == expected


def test_published_hours_are_devices_times_hours_of_the_same_device() -> None:
    made = Trainings()
    made.add(66.0, data=IMAGENET, arch="vit_base_patch16_224", environment=A100, hours=90.0)
    cost = {"task": "pretrain_cost", "metric": "wall_hours", "unit": "hours"}
    published = [
        reference(),
        reference(**cost, value=20.0, protocol="8x A100; as released"),
        reference(value=70.0, pretrain_epochs=800.0),
        reference(**cost, value=7.0, pretrain_epochs=800.0, protocol="64x V100"),
        reference(value=71.0, pretrain_epochs=400.0),
        # Variants that cost differently, none of which the score's words name.
        reference(**cost, value=8.0, pretrain_epochs=400.0, protocol="8x A100; one way"),
        reference(**cost, value=9.0, pretrain_epochs=400.0, protocol="8x A100; another"),
    ]
    (panel,) = panels_of(made, "linear", published=published)
    assert [(point.cost, point.value) for point in panel.published] == [(160.0, 68.0)]


def test_the_ledger_gives_panels_whose_points_are_its_rows() -> None:
    references = read_references()
    rows = {(r.pretrain_epochs, r.value, r.source) for r in references}
    panels = published_panels(references, "epochs")
    assert len(panels) > 3
    for panel in panels:
        assert all((p.cost, p.value, p.source) in rows for p in panel.published)
    hours = {
        (point.label, point.cost): point.value
        for panel in published_panels(references, "device-hours")
        if panel.title == "fine-tuning, imagenet"
        for point in panel.published
    }
    # 64 V100 for 42 hours; 8 for 50 and, at mask ratio 0.9 with 8 masks, 46.
    assert hours["MAE, ViT-L/16", 64 * 42.0]
    assert {cost for label, cost in hours if label.startswith("ExtreMA")} == {400.0, 368.0}


def test_the_picture_holds_points_whiskers_and_fronts() -> None:
    made = Trainings()
    for top1, hours, ratio in ((80.0, 1.0, 0.5), (85.0, 2.0, 0.6), (83.0, 3.0, 0.7)):
        made.add(top1, hours=hours, mask_ratio=ratio)
    (drawing,) = found_cost(made.selection, [], "device-hours").drawings
    figure = drawing.draw()
    assert isinstance(figure, Figure)
    axes = figure.axes[0]
    places = [
        (float(c.lines[0].get_xdata()[0]), float(c.lines[0].get_ydata()[0]))  # type: ignore[attr-defined]
        for c in axes.containers
    ]
    assert sorted(places) == [(1.0, 80.0), (2.0, 85.0), (3.0, 83.0)]
    (front,) = (line for line in axes.lines if line.get_label() == "front of measured")
    assert list(zip(*front.get_data(), strict=True)) == [(1.0, 80.0), (2.0, 85.0)]
    assert [row[2:4] for row in drawing.table[1:4]] == [
        ["1", "80.0 (77.3–82.5)"],
        ["2", "85.0 (82.5–87.2)"],
        ["3", "83.0 (80.4–85.3)"],
    ]
    one, two = (rendered(drawing.draw, ["png", "pdf", "svg"]) for _ in range(2))
    assert one == two


def test_numbers_beside_published_points_do_not_lie_on_each_other() -> None:
    panels = published_panels(read_references(), "epochs")[:4]
    figure = cost_scatter(panels)
    figure.draw_without_rendering()
    for axes, panel in zip(figure.axes, panels, strict=True):
        assert len(axes.texts) == len(shown_points(panel.published)) > 2
        boxes = [text.get_window_extent().padded(-1.5) for text in axes.texts]
        pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
        assert not any(a.overlaps(b) for a, b in pairs)
