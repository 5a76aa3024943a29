"""From finished cells, written by hand, to effects and sentences."""

import json
import math
from dataclasses import replace

import pytest

from bert.errors import UserError
from pretrain.ablation.ablate import changed_since
from pretrain.ablation.cell_runs import cell_folder
from pretrain.ablation.effects import against_baseline, effects, summaries
from pretrain.ablation.grid import cells, grid_as_yaml
from pretrain.ablation.report import _design, write_report
from pretrain.ablation.results import mixed, read_results
from pretrain.ablation.sentences import p_value, sentence
from pretrain.ablation.statistics import compare
from pretrain.validation import JUDGED_ON
from tests.ablation.conftest import write_cells, write_ledger

NOISE = {0: 0.1, 1: -0.1, 2: 0.02, 3: 0.0, 4: -0.03}


def loss(cell) -> float:
    """Spans cost 0.2 or so, no sentence loss gains 0.01 or so; a seed moves all cells alike."""
    span, none = cell.values["masking.strategy"] == "span", cell.values["sentence.objective"] == "none"
    wobble = {0: 0.01, 1: -0.01, 2: 0.0, 3: 0.02, 4: -0.02}[cell.seed]
    return (
        5.0 + NOISE[cell.seed] + (0.2 + 0.004 * (cell.seed - 2)) * span + (0.001 + wobble) * none + 0.01 * span * none
    )


@pytest.fixture
def grid(make_grid):
    config = make_grid(seeds=[0, 1, 2, 3, 4])
    write_cells(config, loss)
    return config


def by_value(config, results, metric="valid/masked_lm_loss", failed=()):
    return {effect.value: effect for effect in effects(config, results, dict.fromkeys(failed, "exit code 1"), metric)}


def test_an_effect_is_averaged_over_the_other_axis_and_paired_by_seed(grid):
    found = by_value(grid, read_results(grid))
    span = found["span"].comparison
    # Per seed: (0.2 + 0.21) / 2; what a seed does to all cells cancels.
    assert (span.difference.n, found["span"].over) == (5, (2, 2))
    assert span.difference.mean == pytest.approx(0.205)
    assert span.difference.deviation == pytest.approx(0.004 * 2.5**0.5)
    none = found["none"].comparison
    # Per seed: 0.001 + 0.005 + wobble, whose deviation is sqrt(0.001 / 4).
    assert none.difference.mean == pytest.approx(0.006)
    assert none.difference.deviation == pytest.approx(0.00025**0.5)


def test_each_effect_becomes_a_plain_sentence(grid):
    found = by_value(grid, read_results(grid))
    assert sentence(found["span"]).startswith(
        "masking.strategy: span falls behind token on valid/masked_lm_loss by 0.205 nats, 95% CI 0.197 to 0.213 (p = "
    )
    assert sentence(found["none"]).startswith(
        "sentence.objective: none: no difference from nsp detected on valid/masked_lm_loss (+0.0060 nats, 95% CI "
        "-0.014 to 0.026); to be detected in 80% of such experiments, it would have to be about 0.0"
    )
    assert sentence(found["span"]).endswith(
        " Across the other axes: from +0.200 nats (nsp) to +0.210 nats (none), 0.010 nats apart."  # in every seed
    )


def test_an_effect_that_is_the_same_in_each_seed_is_told_and_not_tested(grid):
    found = by_value(grid, read_results(grid))["span"]
    said = sentence(replace(found, comparison=compare([2.25, 3.25], [2.0, 3.0]), p=math.nan))
    assert said == (
        "masking.strategy: span differs from token on valid/masked_lm_loss by +0.250 nats in each of 2 seeds: without "
        "any spread there is nothing to test it against. "
        "Across the other axes: from +0.200 nats (nsp) to +0.210 nats (none), 0.010 nats apart."
    )


def test_no_difference_at_all_is_called_the_same(grid):
    found = replace(by_value(grid, read_results(grid))["span"], p=math.nan, by_rest={})
    said = sentence(replace(found, comparison=compare([2.0, 3.0], [2.0, 3.0])))
    assert said.endswith(
        "span is the same as token on valid/masked_lm_loss in each of 2 seeds: without any spread there is nothing to "
        "test it against."
    )
    said = sentence(replace(found, comparison=compare([2.0], [2.0]), by_seed={0: 0.0}))
    assert said.endswith("span is the same as token on valid/masked_lm_loss in one seed.")


def test_what_cannot_be_tested_does_not_count_as_a_test(make_grid):
    config = make_grid(seeds=[0, 1, 2])

    def score(cell) -> float:  # the masking changes nothing, the objective 0.1, 0.2 or 0.3
        return 5.0 + 0.1 * (1 + cell.seed) * (cell.values["sentence.objective"] == "none")

    write_cells(config, score)
    found = by_value(config, read_results(config))
    assert math.isnan(found["span"].comparison.p) and math.isnan(found["span"].p)
    assert found["none"].p == found["none"].comparison.p == pytest.approx(0.0742, abs=1e-4)  # t = 0.2 / (0.1 / sqrt(3))


def test_what_does_not_hold_up_against_the_number_of_effects_is_called_so(grid):
    found = by_value(grid, read_results(grid))["none"]
    comparison = replace(
        found.comparison, p=0.03, difference=replace(found.comparison.difference, low=0.001, high=0.011)
    )
    said = sentence(replace(found, comparison=comparison, p=0.06))
    assert said == (
        "sentence.objective: none: +0.0060 nats against nsp on valid/masked_lm_loss, 95% CI 0.0010 to 0.011: not "
        "significant, given how many effects were tested (p = 0.03, 0.06 after Holm). Across the other axes: from "
        "+0.0010 nats (token) to +0.011 nats (span), 0.010 nats apart."
    )


def test_a_p_value_near_the_limit_has_three_digits():
    assert [p_value(p) for p in (0.0004321, 0.0444, 0.0496, 0.05001, 0.0549, 0.0561, 1.0)] == [
        "0.00043",
        "0.044",
        "0.0496",
        "0.0500",
        "0.0549",
        "0.056",
        "1",
    ]


def test_an_effect_on_a_metric_of_a_small_scale_is_told_with_two_significant_digits(grid):
    found = by_value(grid, read_results(grid))["span"]
    # Differences 0.0004, 0.0005, 0.0006: mean 0.0005, deviation 0.0001, and 4.303 x 0.0001 / sqrt(3) = 0.000248.
    comparison = compare([0.0014, 0.0015, 0.0016], [0.001, 0.001, 0.001])
    said = sentence(replace(found, metric="sts/mse", comparison=comparison, p=0.013, by_rest={}))
    assert "span falls behind token on sts/mse by 0.00050, 95% CI 0.00025 to 0.00075 (p = 0.013 after Holm; " in said


def test_scores_are_in_points_and_better_is_more(make_grid, with_task):
    config = make_grid(finetune=with_task, metrics=["topic/macro_f1"])

    def score(cell) -> float:
        return 5 + cell.seed / 1000 + (cell.values["masking.strategy"] == "span") * (1 + cell.seed / 50)

    write_cells(config, score)
    found = by_value(config, read_results(config), "topic/macro_f1")["span"]
    # Each score is the mean over two seeds of fine-tuning; the difference is 10.0 and 10.2 points.
    assert found.comparison.difference.mean == pytest.approx(0.101)
    said = "masking.strategy: span beats token on topic/macro_f1 by 10.10 points, 95% CI 8.83 to 11.37 (p = "
    assert sentence(found).startswith(said)
    assert "after Holm; from only 2 seeds, whose spread is hardly known)" in sentence(found)


def test_a_task_that_has_not_been_learned_is_shown_and_not_compared(make_grid, with_task):
    config = make_grid(finetune=with_task, metrics=["topic/accuracy", "topic/loss"])
    write_cells(config, lambda cell: 5.0)
    for cell in cells(config):
        learned = cell.name != "none-span/seed-1"
        scores = {"valid/accuracy": 0.6 if learned else 0.5, "valid/loss": 0.7, "baseline/accuracy": 0.5}
        for seed in (0, 1):
            (cell_folder(config, cell) / f"topic-{seed}" / "metrics.json").write_text(json.dumps(scores))
    results = read_results(config)
    found = by_value(config, results, "topic/accuracy")
    assert found["span"].left_out == {"none": "a seed has not learned the task"}
    assert found["none"].left_out == {"span": "a seed has not learned the task"}
    assert by_value(config, results, "topic/loss")["span"].left_out == {}
    said = write_report(config, results, {}, [], report_folder(config))
    assert (
        "Not compared on topic/accuracy, since a seed is not clearly better (by two standard errors) than one " in said
    )
    assert "answer to everything, or guessing, which scores 50.00 on topic/accuracy: none-span. The task may" in said


def test_a_task_is_compared_on_none_of_its_scores_where_one_answer_does_as_well_by_all_that_is_known(
    make_grid, with_task
):
    metrics = ["topic/accuracy", "topic/macro_f1", "topic/char_macro_f1", "topic/test/hard/macro_f1"]
    config = make_grid(finetune=with_task, metrics=metrics)
    write_cells(config, lambda cell: 5.0)
    for cell in cells(config):
        of_cell = {"none-span/seed-1": (0.5, 0.25), "none-token/seed-0": (0.5, 0.4)}.get(cell.name, (0.6, 0.6))
        scores = dict(zip(("valid/accuracy", "valid/macro_f1"), of_cell, strict=True))
        scores |= {"baseline/accuracy": 0.5, "baseline/macro_f1": 0.2}
        scores |= {"valid/char_macro_f1": 0.2, "test/hard/macro_f1": 0.4}
        for seed in (0, 1):
            run = cell_folder(config, cell) / f"topic-{seed}"
            (run / "metrics.json").write_text(json.dumps(scores))
            (run / "classes.json").write_text(json.dumps({"data": [["a", 0.3, 0.3, 0.3, 9]] * 4}))
    results = read_results(config)
    left_out = {metric: sorted(by_value(config, results, metric)["none"].left_out) for metric in metrics}
    assert left_out == {  # accuracy alone does not rule out what a model of few labels' frequent one can do
        "topic/accuracy": ["span", "token"],
        "topic/macro_f1": ["span"],
        "topic/char_macro_f1": ["span"],
        "topic/test/hard/macro_f1": ["span"],
    }
    said = write_report(config, results, {}, [], report_folder(config))
    assert (
        "Not compared on topic/char_macro_f1, since a seed is not clearly better (by two standard errors) than one "
        "answer to everything, or guessing, which scores 50.00 on topic/accuracy and 25.00 on topic/macro_f1: "
        "none-span."
    ) in said


@pytest.mark.parametrize(
    ("metric", "floor", "classes", "too_little", "enough"),
    [
        # 100 examples: 2 sqrt(0.5 x 0.5 / 100) = 0.10; with 5 classes 2 sqrt(0.2 x 0.8 / 100) = 0.08; 2 / sqrt(100).
        ("accuracy", 0.5, 2, 0.59, 0.61),
        ("macro_f1", 0.1, 5, 0.27, 0.29),  # the frequent answer has 0.1, guessing each as often as it occurs 1/5
        ("pearson", 0.0, 0, 0.19, 0.21),
        ("entity_macro_f1", 0.0, 2, 0.03, 0.05),  # nobody guesses an entity: 2 sqrt(0.03 x 0.97 / 100) = 0.034, 0.044
        ("mse", 1.0, 0, 1.0, 0.99),
    ],
)
def test_a_task_is_learned_where_a_score_is_two_standard_errors_above_guessing(
    make_grid, with_task, metric, floor, classes, too_little, enough
):
    config = make_grid(finetune=with_task, metrics=[f"topic/{metric}"])
    write_cells(config, lambda cell: 5.0)
    for cell in cells(config):
        scores = {f"valid/{metric}": (too_little, enough)[cell.seed], f"baseline/{metric}": floor}
        for seed in (0, 1):
            run = cell_folder(config, cell) / f"topic-{seed}"
            (run / "metrics.json").write_text(json.dumps(scores))
            write_ledger(run, examples=100)
            (run / "classes.json").write_text(json.dumps({"data": [["a", 0.5, 0.5, 0.5, 9]] * classes}))
    found = {cell.seed: result.at_floor(f"topic/{metric}") for cell, result in read_results(config).items()}
    assert found == {0: [f"topic/{metric}"], 1: []}


def test_a_combination_of_which_a_seed_has_not_learned_is_shown_and_not_compared(make_grid):
    config = make_grid()
    write_cells(config, lambda cell: 5.0 + cell.seed / 10, leave_out=["none-span/seed-1"])
    write_cells_that_failed_to_learn(config, "none-span/seed-1")
    results = read_results(config)
    assert len(results) == 8
    found = by_value(config, results)
    assert found["span"].over == (1, 2)  # with nsp alone
    said = sentence(found["span"])
    assert said.startswith(
        "Only in 1 of 2 combinations of the other axes (nsp; not none: a seed has not learned): masking.strategy: span "
    )
    assert found["span"].left_out == {"none": "a seed has not learned"}
    assert "Not compared" in write_report(config, results, {}, [], report_folder(config))
    assert "(not learned)" in (report_folder(config) / "report.md").read_text()


def write_cells_that_failed_to_learn(config, name) -> None:
    others = [cell.name for cell in cells(config) if cell.name != name]
    write_cells(config, lambda cell: 9.0, below=0.49, leave_out=others)


def report_folder(config):
    from pathlib import Path

    return Path(config.output)


def test_a_seed_that_is_missing_is_missing_on_both_sides(make_grid):
    config = make_grid(seeds=[0, 1, 2, 3, 4])
    write_cells(config, loss, leave_out=["nsp-span/seed-0"])
    found = by_value(config, read_results(config))
    assert found["span"].comparison.difference.n == 4
    assert found["none"].comparison.difference.n == 4  # averaged over both maskings, so it needs all four cells


def test_the_table_of_cells_has_mean_deviation_and_interval(grid):
    found = summaries(read_results(grid), "valid/masked_lm_loss")["nsp-token"]
    assert (found.n, found.mean) == (5, pytest.approx(5 + sum(NOISE.values()) / 5))


def test_the_report_is_written_as_text_json_and_pictures(grid):
    results, folder = read_results(grid), report_folder(grid)
    text = write_report(grid, results, {}, [], folder)
    assert "4 combinations, 5 seeds each, 3,000 tokens a run" in text
    report = json.loads((folder / "report.json").read_text())
    assert [effect["value"] for effect in report["effects"]] == ["none", "span"]
    assert len(report["cells"]) == 20 and report["cells"][0]["curve"] == [[2000.0, 5.1]]
    for name in ("curves.png", "effects.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_cells_that_are_not_there_are_counted(make_grid):
    config = make_grid()
    write_cells(config, lambda cell: 5.0, leave_out=["nsp-token/seed-0"])
    failed = {cells(config)[0]: "pretrain: exit code 1"}
    text = write_report(config, read_results(config), failed, [], report_folder(config))
    assert "Not finished" not in text and "failed: nsp-token/seed-0: pretrain: exit code 1" in text
    # One of the others has its results, and failed in what is no part of them.
    text = write_report(config, read_results(config), {cells(config)[1]: "topic"}, [], report_folder(config))
    assert "**Not finished: 1 of 8 cells**; p values are interim." in text
    text = write_report(config, read_results(config), {}, [], report_folder(config))
    assert "**Not finished: 1 of 8 cells**; p values are interim." in text


def test_a_combination_that_has_not_learned_in_a_seed_without_a_partner_is_not_compared_either(make_grid):
    config = make_grid(seeds=[0, 1, 2])
    write_cells(config, loss, leave_out=["nsp-span/seed-1", "nsp-token/seed-1"])
    write_cells_that_failed_to_learn(config, "nsp-span/seed-1")
    found = by_value(config, read_results(config))["span"]
    assert (found.over, list(found.by_rest)) == ((1, 2), ["none"])


def test_a_combination_of_which_a_seed_failed_is_not_compared(make_grid):
    config = make_grid(seeds=[0, 1, 2])
    write_cells(config, loss, leave_out=["nsp-span/seed-1"])
    failed = [cell for cell in cells(config) if cell.name == "nsp-span/seed-1"]
    found = by_value(config, read_results(config), failed=failed)["span"]
    assert found.left_out == {"nsp": "a seed failed"} and found.comparison.difference.n == 3


def test_an_effect_of_some_seeds_says_so(make_grid):
    config = make_grid(seeds=[0, 1, 2, 3, 4])
    write_cells(config, loss, leave_out=["nsp-span/seed-0"])
    said = sentence(by_value(config, read_results(config))["span"])
    assert said.startswith("Only over 4 of 5 seeds: masking.strategy: span falls behind token")


def test_what_was_judged_on_other_tokens_is_not_compared(make_grid):
    config = make_grid(seeds=[0, 1, 2])
    write_cells(config, loss)
    for cell in cells(config):
        span = cell.values["masking.strategy"] == "span"
        (cell_folder(config, cell) / "pretrain" / JUDGED_ON).write_text(json.dumps({"masked_lm": "ab"[span]}))
    results = read_results(config)
    found = by_value(config, results)
    assert found["span"].comparison is None and found["none"].comparison is not None
    assert sentence(found["span"]) == (
        "masking.strategy: span could not be compared with token on valid/masked_lm_loss: they are judged on different "
        "text, tokens or pairs."
    )
    assert "nsp-span" not in against_baseline(config, results, {}, "valid/masked_lm_loss")


def test_a_score_that_is_no_number_is_not_compared(make_grid):
    config = make_grid(seeds=[0, 1, 2])
    write_cells(config, lambda cell: 5.0 + cell.seed / 10)
    results = read_results(config)
    next(iter(results.values())).metrics["valid/span_masked_lm_loss"] = float("nan")
    for result in list(results.values())[1:]:
        result.metrics["valid/span_masked_lm_loss"] = 5.0
    found = by_value(config, results, "valid/span_masked_lm_loss")["span"]
    assert "a score is not finite" in found.left_out.values()


def test_effects_that_differ_by_the_other_axes_show_how_far(make_grid):
    config = make_grid(seeds=[0, 1, 2])

    def crossing(cell) -> float:
        more = 0.3 + 0.03 * cell.seed if cell.values["sentence.objective"] == "none" else -0.3 + 0.01 * cell.seed
        return 5.0 + cell.seed / 100 + more * (cell.values["masking.strategy"] == "span")

    write_cells(config, crossing)
    said = sentence(by_value(config, read_results(config))["span"])
    assert "no difference from token detected" in said
    # By seed 0.60, 0.62 and 0.64 apart: mean 0.62, deviation 0.02, and t = 4.303 gives 4.303 x 0.02 / sqrt(3) = 0.050.
    assert said.endswith(
        "Across the other axes: from -0.290 nats (nsp) to +0.330 nats (none), 0.620 nats apart (95% CI 0.570 to 0.670)."
    )


@pytest.mark.parametrize("more", [[], ["whole_word"]])
def test_combinations_picked_as_the_farthest_apart_of_more_than_two_are_said_to_be(make_grid, more):
    config = make_grid(axes={"sentence.objective": ["nsp", "none"], "masking.strategy": ["token", "span", *more]})
    write_cells(config, loss)
    text = write_report(config, read_results(config), {}, [], report_folder(config))
    assert ("are the farthest apart of up to 3. They were picked after looking, so that" in text) == bool(more)


def test_cells_of_another_corpus_are_not_mixed_with_the_others(make_grid):
    config = make_grid()
    write_cells(config, loss)
    for cell in cells(config):
        text = "old" if cell.seed == 0 else "new"
        facts = {"corpus": text, "tokenizer": "one"}
        (cell_folder(config, cell) / "pretrain" / "run_facts.json").write_text(json.dumps(facts))
    (said,) = mixed(config, read_results(config))
    assert (
        "cells differ in corpus, though their options are alike: old ('nsp-token/seed-0' for one) and new "
        "('nsp-token/seed-1' for one). Remove"
    ) in said
    assert mixed(replace(config, seeds=[0]), read_results(replace(config, seeds=[0]))) == []


def test_scores_on_another_file_of_labels_under_the_same_path_are_not_mixed_with_the_others(make_grid, with_task):
    config = make_grid(finetune=with_task, metrics=["topic/macro_f1"])
    write_cells(config, loss)
    for cell in cells(config):
        for seed in (0, 1):
            facts = {"train": "one", "eval": "corrected" if (cell.name, seed) == ("none-span/seed-1", 1) else "first"}
            (cell_folder(config, cell) / f"topic-{seed}" / "run_facts.json").write_text(json.dumps(facts))
    assert mixed(config, read_results(config)) == [
        "output: finished cells differ in the eval data of finetune.topic, though their options are alike: first "
        "('nsp-token/seed-0/topic-0' for one) and corrected ('none-span/seed-1/topic-1' for one). Remove the folders "
        "of all but one."
    ]


@pytest.mark.parametrize(
    ("of_one", "differ"),
    [
        ({"negatives": "rule 2"}, ["negatives", "negatives"]),  # for either objective
        ({"init_weights": "abc"}, []),  # other cells are from before it was recorded
        ({"init_weights": "abc", "corpus": "other"}, ["corpus"]),
    ],
)
def test_cells_whose_random_bs_were_drawn_by_other_rules_are_not_mixed(make_grid, of_one, differ):
    config = make_grid()
    write_cells(config, loss)
    for cell in cells(config):
        facts = {"corpus": "one", "tokenizer": "one"} | (of_one if cell.seed == 0 else {})
        (cell_folder(config, cell) / "pretrain" / "run_facts.json").write_text(json.dumps(facts))
    found = mixed(config, read_results(config))
    assert [said.partition(" differ in ")[2].partition(",")[0] for said in found] == differ


def test_seeds_of_fine_tuning_that_are_chosen_after_cells_were_finished_are_said(make_grid, with_task):
    config = make_grid(finetune=with_task, metrics=["topic/macro_f1"])
    write_cells(config, loss)
    (report_folder(config) / "declared.yaml").write_text(grid_as_yaml(config))
    assert changed_since(config) == []
    fewer = replace(config, finetune={"topic": replace(with_task["topic"], seeds=[1])})
    assert changed_since(fewer) == ["finetune.topic.seeds [1], declared as [0, 1]"]


def test_the_device_and_commit_of_fine_tuning_count_too(make_grid, with_task):
    config = make_grid(finetune=with_task, metrics=["topic/macro_f1"])
    write_cells(config, loss)
    for cell in cells(config):
        for run in ("pretrain", "topic-0", "topic-1"):
            write_ledger(cell_folder(config, cell) / run, device="gpu" if run == "topic-1" else "cpu")
    text = write_report(config, read_results(config), {}, [], report_folder(config))
    assert "Run by commit abc, torch 2, cpu; commit abc, torch 2, gpu; reported" in text
    assert "**Cells were run by different code or devices**" in text


def test_what_is_chosen_after_cells_were_finished_is_said(make_grid):
    config = make_grid(seeds=[0, 1, 2])
    write_cells(config, loss)
    declared = report_folder(config) / "declared.yaml"
    declared.write_text(grid_as_yaml(replace(config, seeds=[0, 1])))
    changed = changed_since(config)
    assert changed == ["seeds [0, 1, 2], declared as [0, 1]"]
    text = write_report(config, read_results(config), {}, changed, report_folder(config))
    assert "**Not as declared before the first cell was finished**: seeds [0, 1, 2], declared as [0, 1]." in text
    assert "declared beforehand:" not in text


def test_the_scores_of_checkpoints_are_averaged_by_their_step(make_grid, with_task):
    task = {"topic": replace(with_task["topic"], checkpoints=True)}
    config = make_grid(seeds=[0, 1], finetune=task, metrics=["topic/macro_f1"])
    write_cells(config, loss)
    for cell in cells(config):
        for step in (1, 2)[cell.seed :]:  # the second seed lacks its first
            for seed in (0, 1):
                folder = cell_folder(config, cell) / f"topic-{seed}-step-{step:08d}"
                folder.mkdir()
                (folder / "metrics.json").write_text(json.dumps({"valid/macro_f1": 0.1 * step}))
    text = write_report(config, read_results(config), {}, [], report_folder(config))
    assert "| nsp-token | 1,000: 10.00 (1 of 2 seeds), 2,000: 20.00 |" in text


def test_the_last_checkpoints_are_averaged_though_each_seed_ends_at_its_own_step(make_grid, with_task):
    task = {"topic": replace(with_task["topic"], checkpoints=True)}
    config = make_grid(seeds=[0, 1], finetune=task, metrics=["topic/macro_f1"])
    write_cells(config, loss)
    for cell in cells(config):
        folder = cell_folder(config, cell)
        # 1,000 tokens in step 1 of both; the first seed ends after step 2 with 2,000, the second after 3 with 1,900.
        ends = {"step": 3, "time": 130.0, "metrics": {"train/tokens": 1900}}
        if cell.seed == 1:
            file = folder / "pretrain" / "metrics.jsonl"
            lines = file.read_text().replace('"train/tokens": 2000', '"train/tokens": 1500')
            file.write_text(lines + json.dumps(ends) + "\n")
        scores = {1: 0.1, 2: 0.2} if cell.seed == 0 else {1: 0.3, 2: 0.4, 3: 0.5}
        for step, score in scores.items():
            for seed in (0, 1):
                run = folder / f"topic-{seed}-step-{step:08d}"
                run.mkdir()
                (run / "metrics.json").write_text(json.dumps({"valid/macro_f1": score}))
    text = write_report(config, read_results(config), {}, [], report_folder(config))
    # Last: (2,000 + 1,900) / 2 tokens and (20 + 50) / 2 points; the second seed alone has a step 2 before its last.
    assert "| nsp-token | 1,000: 20.00, 1,500: 40.00 (1 of 2 seeds), 1,950: 35.00 |" in text


def test_tokens_before_the_first_line_of_a_run_are_counted_from_zero(make_grid):
    config = make_grid(seeds=[0])
    write_cells(config, lambda cell: 5.0)
    for file in report_folder(config).glob("cells/*/*/pretrain/metrics.jsonl"):
        # The lines of 1,000 and 2,000 tokens are now of steps 100 and 200, and the loss is measured at 25 and 150.
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        lines = [line | {"step": step} for line, step in zip([*lines, lines[-1]], (100, 200, 25, 150), strict=True)]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert {tuple(r.curve) for r in read_results(config).values()} == {((250.0, 5.0), (1500.0, 5.0))}


@pytest.mark.parametrize("name", [JUDGED_ON, "tracking.json", "run_facts.json", "metrics.jsonl"])
def test_a_file_of_a_finished_run_that_was_removed_is_named(make_grid, name):
    config = make_grid()
    write_cells(config, loss)
    folder = cell_folder(config, cells(config)[2])
    (folder / "pretrain" / name).unlink()
    with pytest.raises(UserError) as refused:
        read_results(config)
    assert str(refused.value) == (
        f"output: '{folder / 'pretrain' / name}' is missing, which the run wrote before it was finished. Put it back, "
        f"or remove '{folder}', so that this cell is run again."
    )


def test_seeds_that_do_not_meet_are_named_as_what_is_lacking(make_grid):
    config = make_grid(seeds=[0, 1])
    write_cells(config, loss, leave_out=["nsp-span/seed-0", "none-span/seed-1"])
    found = by_value(config, read_results(config))["span"]
    assert found.over == (0, 2)
    assert sentence(found).endswith("no seed is finished in all combinations.")


def test_a_grid_without_declared_effects_says_so(make_grid):
    config = make_grid(effects=[])
    write_cells(config, loss)
    text = write_report(config, read_results(config), {}, [], report_folder(config))
    assert "No effect was declared, so none is tested." in text and "Main effects" not in text
    assert "- 2 seeds vary" in text


def test_a_grid_of_one_seed_tests_nothing_and_says_so(make_grid):
    config = make_grid(seeds=[0])
    write_cells(config, loss)
    text = write_report(config, read_results(config), {}, [], report_folder(config))
    assert "4 combinations, 1 seed each" in text
    assert "Each is averaged over the other axes (one seed: nothing is tested).\n" in text
    assert "- One seed: nothing is tested. Other initial weights, another order of documents" in text
    assert "t-test" not in text and "1 seeds" not in text


def test_seeds_of_a_grid_that_starts_from_a_model_do_not_vary_its_weights(make_grid):
    config = make_grid()
    config = replace(config, base=config.base | {"init": "klue/bert-base"})
    write_cells(config, loss)
    text = write_report(config, read_results(config), {}, [], report_folder(config))
    assert "- 2 seeds vary the weights that init does not give, the order of documents, the pairs and the masks" in text
    assert "nor how the weights of 'klue/bert-base' came about, which cells start from." in text
    assert "initial weights" not in text


def test_an_effect_of_one_seed_does_not_drop_what_is_to_be_said_about_the_intervals_of_others(make_grid):
    config = make_grid(seeds=[0, 1, 2], effects=["masking.strategy"])
    config = replace(config, axes=config.axes | {"masking.strategy": ["token", "span", "whole_word"]})
    write_cells(config, loss, leave_out=["nsp-span/seed-0", "nsp-span/seed-1"])
    text = write_report(config, read_results(config), {}, [], report_folder(config))
    assert "- 1 to 3 seeds vary the initial weights" in text
    # 3 seeds: (n - 1) s^2 / sigma^2 lies between 0.0506 and 7.378, so sigma between 0.52 s and 6.28 s.
    assert "takes the deviation of 3 seeds for the true one, which may be 0.5 to 6.3 times as large." in text


def test_effects_of_two_axes_with_the_same_values_are_told_apart_in_the_table(make_grid):
    both = {"masking.static": [False, True], "data.split_sentences": [False, True]}
    config = make_grid(axes=both, baseline=dict.fromkeys(both, False), effects=list(both))
    write_cells(config, lambda cell: 5.0 + cell.seed / 100 + 0.1 * cell.values["data.split_sentences"])
    text = write_report(config, read_results(config), {}, [], report_folder(config))
    assert "| masking.static: True - False | +0.000 |" in text
    assert "| data.split_sentences: True - False | +0.100 |" in text


def test_what_one_seed_cannot_tell_is_left_blank_in_the_table_of_effects(make_grid):
    config = make_grid(seeds=[0])
    write_cells(config, loss)
    text = write_report(config, read_results(config), {}, [], report_folder(config))
    # At seed 0 the masking costs 0.192 with nsp and 0.202 with none.
    assert "| valid/masked_lm_loss | masking.strategy: span - token | +0.197 |  |  |  |  | 1 of 1 | 2 of 2 |" in text
    assert "nan" not in text


def test_a_report_on_maskings_says_under_which_masks_each_loss_is_measured(grid):
    config = replace(grid, metrics=["valid/masked_lm_loss", "valid/whole_word_masked_lm_loss", "ner/loss"])
    text = write_report(replace(grid, effects=["masking.strategy"]), read_results(grid), {}, [], report_folder(grid))
    assert "frozen masks of one kind: `valid/masked_lm_loss` by token. A model does better on" in text
    assert "after Holm)" in text and "hardly known" not in text  # five seeds
    lines = "\n".join(_design(replace(config, effects=["masking.strategy"]), {}, {}, []))
    assert "`valid/masked_lm_loss` by token, `valid/whole_word_masked_lm_loss` by whole word. A model" in lines
    assert "does better" not in "\n".join(_design(replace(config, effects=["sentence.objective"]), {}, {}, []))
