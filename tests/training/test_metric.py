import pytest

from bert.training.metric import amount, higher_is_better, meaning, number, signed
from finetune.tasks import TASKS
from pretrain.config import PretrainConfig
from pretrain.validation import metric_names


@pytest.mark.parametrize("metric", ["valid/masked_lm_loss", "sts/mse", "valid/bits_per_character", "loss"])
def test_of_losses_and_errors_less_is_better(metric):
    assert not higher_is_better(metric)


@pytest.mark.parametrize("metric", ["ner/entity_macro_f1", "qa/exact_match", "sts/spearman", "nsmc/accuracy"])
def test_of_scores_more_is_better(metric):
    assert higher_is_better(metric)


@pytest.mark.parametrize("metric", ["perplexity", "valid/kl", "calibration_error"])
def test_a_metric_of_which_nobody_said_which_way_is_better_is_refused(metric):
    with pytest.raises(LookupError, match=metric):
        higher_is_better(metric)


def test_every_metric_of_pretraining_and_of_all_tasks_has_a_meaning():
    names = metric_names(PretrainConfig()) + [metric for task in TASKS.values() for metric in task.metrics]
    assert {meaning(name).unit for name in names} == {"nats", "bits", "points", ""}


def test_shares_are_shown_in_points_and_losses_in_nats():
    assert amount(0.8123, "ner/klue_char_macro_f1_without_o") == amount(0.8123, "ner/entity_macro_f1") == "81.23 points"
    assert signed(-0.25, "valid/masked_lm_loss") == "-0.250 nats"
    assert signed(0.5, "sts/pearson") == "+0.500"


def test_small_values_are_shown_with_two_significant_digits():
    shown = [number(value, "sts/mse") for value in (0.0123, 0.00123, 0.000987, 0.0000123, 0.0)]
    assert shown == ["0.012", "0.0012", "0.00099", "1.2e-05", "0.000"]
    assert [number(value, "nsmc/accuracy", sign=True) for value in (0.01234, 0.00034, -0.00004)] == [
        "+1.23",
        "+0.034",
        "-0.0040",
    ]
    assert signed(0.1 + 0.2 - 0.3, "sts/mse") == "+0.000"  # a rounding error
