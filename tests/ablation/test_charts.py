"""What the charts of a grid draw."""

from bert.picture import blank
from pretrain.ablation.charts import _named, _point
from pretrain.ablation.effects import effects
from pretrain.ablation.results import read_results
from tests.ablation.conftest import write_cells


def drawn(config):
    """The axes on which the first effect is drawn."""
    effect, *_ = effects(config, read_results(config), {}, "valid/masked_lm_loss")
    axes = blank(4, 3).subplots()
    _point(axes, 0, effect)
    return axes


def spread(cell) -> float:
    return 5.0 + cell.seed / 10 * (cell.values["sentence.objective"] == "none")


def test_an_effect_with_an_interval_is_a_full_point_with_error_bars(make_grid):
    config = make_grid()
    write_cells(config, spread)
    axes = drawn(config)
    assert len(axes.containers) == 1 and axes.lines[0].get_markerfacecolor() == "C0"


def test_an_effect_of_one_seed_is_a_hollow_point_without_error_bars(make_grid):
    config = make_grid(seeds=[1])
    write_cells(config, spread)
    axes = drawn(config)
    assert not axes.containers and axes.lines[0].get_markerfacecolor() == "none"


def test_an_effect_is_named_with_its_axis(make_grid):
    config = make_grid()
    write_cells(config, spread)
    effect, *_ = effects(config, read_results(config), {}, "valid/masked_lm_loss")
    assert _named(effect) == "sentence.objective:\nnone - nsp"
