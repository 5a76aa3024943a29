import pytest

from bert.training.metric import amount, higher_is_better, meaning, signed
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
