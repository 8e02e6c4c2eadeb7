"""Colours of methods: the same in every figure for the well-known ones, apart within each for all."""

from micl_bench.report.figures.palette import method_colours


def test_a_well_known_method_has_one_colour_in_all_figures() -> None:
    alone = method_colours({"MAE"})["MAE"]
    for others in ({"DINO"}, {"MiCL", "iBOT", "I-JEPA"}, {"a", "b", "z"}):
        assert method_colours({"MAE", *others})["MAE"] == alone


def test_the_methods_of_a_figure_have_colours_of_their_own() -> None:
    known = {"MiCL", "from scratch", "random weights", "MAE", "DINO", "iBOT"}
    for unknown in ({"mine"}, {"mine", "yours", "Theirs"}):
        methods = known | unknown
        colours = method_colours(methods)
        assert len({colours[method] for method in methods}) == len(methods)


def test_more_methods_than_colours_go_round() -> None:
    methods = {f"method {number}" for number in range(20)}
    assert methods <= method_colours(methods).keys()
