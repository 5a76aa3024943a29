"""The names of a grid's metrics."""

from pretrain.ablation.metric_names import (
    floors_of,
    full_name,
    is_loss,
    is_of_pretraining,
    name_in_place,
    place_of,
    scores_of,
)


def test_a_full_name_comes_apart_into_what_it_was_made_of():
    for place, name in (("valid", "masked_lm_loss"), ("ner", "loss"), ("ner", "test/hard/entity_macro_f1")):
        metric = full_name(place, name)
        assert (place_of(metric), name_in_place(metric)) == (place, name)
        assert is_of_pretraining(metric) == (place == "valid")
        assert is_loss(metric) == (name != "test/hard/entity_macro_f1")


def test_what_a_task_s_run_wrote_gets_the_task_s_name():
    written = {"valid/loss": 0.7, "test/hard/accuracy": 0.5, "baseline/accuracy": 0.4, "best_step": 3}
    assert scores_of("topic", written) == {"topic/loss": 0.7, "topic/test/hard/accuracy": 0.5}
    assert floors_of("topic", written) == {"topic/accuracy": 0.4}
