import pytest

from bert.training.goal import higher_is_better


@pytest.mark.parametrize("metric", ["valid/masked_lm_loss", "sts/mse", "valid/bits_per_character", "loss"])
def test_of_losses_and_errors_less_is_better(metric):
    assert not higher_is_better(metric)


@pytest.mark.parametrize("metric", ["ner/entity_macro_f1", "qa/exact_match", "sts/spearman", "nsmc/accuracy"])
def test_of_scores_more_is_better(metric):
    assert higher_is_better(metric)
