"""Losses against transformers' classes, scores against counts made by hand, folders that open elsewhere."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from bert.errors import UserError
from finetune import pictures
from finetune.config import TaskConfig
from finetune.example_kinds import Labelled, Question, Tagged
from finetune.heads import AS_TRANSFORMERS, HEADS, SMOOTHED
from finetune.layer_mix import LayerMix
from finetune.model import load
from finetune.schemes import TAGGINGS, check_iob2
from finetune.tasks import TASKS
from finetune.tasks.task import Findings, Mistake

LABELS = ["bad", "fair", "good"]
TAGS = ["O", "B-LC", "I-LC", "B-PS", "I-PS"]
FILMS = [Labelled(1, "a good film", None, "good"), Labelled(2, "a very bad film", "the cat sat", "bad")]
# 서울시에 이순신은 갔다 .  -> 서울 ##시 ##에 | 이 ##순 ##신 ##은 | 갔 ##다 | .
TEXT = "서울시에 이순신은 갔다 ."
KOREAN = Tagged(1, TEXT, [(n, n + 1) for n in range(len(TEXT))], ["B-LC", "I-LC", "I-LC", "O", "O"] + ["O"] * 9)


def tagged(text: str, *entities: tuple[int, int, str]) -> Tagged:
    tags = ["O"] * len(text)
    for start, end, kind in entities:
        tags[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return Tagged(1, text, [(n, n + 1) for n in range(len(text))], tags)


@pytest.fixture
def classification(small_config, pieces, unsettled):
    torch.manual_seed(0)
    return unsettled(TASKS["classification"](small_config, pieces, LABELS, TaskConfig(), 16).eval())


@pytest.fixture(params=HEADS)
def ner(request, small_config, pieces, unsettled):
    torch.manual_seed(0)
    config = TaskConfig(name="ner", head=request.param)
    return unsettled(TASKS["ner"](small_config, pieces, TAGS, config, 16).eval())


def opened(task, folder, auto):
    """What transformers makes of the exported folder; no key may be missing or unexpected."""
    task.export(folder)
    model, report = auto.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    return model.eval()


def test_classification_is_that_of_transformers(classification, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    theirs = opened(classification, tmp_path, AutoModelForSequenceClassification)
    batch = classification.pack(classification.features(FILMS), FILMS)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    rows = [tokenizer(e.text, e.text_pair, return_tensors="pt") for e in FILMS]
    logits = torch.cat([theirs(**row).logits for row in rows])
    expected = F.cross_entropy(logits, torch.tensor([2, 0]), reduction="sum")
    torch.testing.assert_close(classification(batch)["loss"], expected)
    found = torch.tensor([row["probabilities"] for row in classification.predict(batch)])
    torch.testing.assert_close(found, logits.softmax(-1))
    assert theirs.config.id2label == dict(enumerate(LABELS))


def test_a_batch_is_judged_by_one_pass_of_the_encoder(classification):
    batch, passes = classification.pack(classification.features(FILMS), FILMS), []
    expected = classification(batch), classification.predict(batch)
    classification.bert.encoder.register_forward_hook(lambda *_: passes.append(1))
    assert classification.judge(batch) == expected
    assert len(passes) == 1


@pytest.mark.parametrize("ner", AS_TRANSFORMERS, indirect=True)
def test_tagging_scores_are_those_of_transformers(ner, tmp_path):
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    theirs = opened(ner, tmp_path, AutoModelForTokenClassification)
    batch = ner.pack(ner.features([KOREAN]), [KOREAN])
    row = AutoTokenizer.from_pretrained(tmp_path)(TEXT, return_tensors="pt")
    torch.testing.assert_close(ner.head.classifier(ner.compute(batch)), theirs(**row).logits[0, 1:-1])


@pytest.mark.parametrize("ner", sorted({*HEADS} - {*AS_TRANSFORMERS}), indirect=True)
def test_a_head_that_transformers_cannot_express_leaves_a_plain_encoder_to_it(ner, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    theirs = opened(ner, tmp_path, AutoModel)
    assert type(theirs).__name__ == "BertModel"
    batch = ner.pack(ner.features([KOREAN]), [KOREAN])
    row = AutoTokenizer.from_pretrained(tmp_path)(TEXT, return_tensors="pt")
    torch.testing.assert_close(ner.bert(batch).last_hidden_state, theirs(**row).last_hidden_state[0])


def test_a_folder_is_read_back_whole(ner, tmp_path):
    ner.export(tmp_path)
    again = load(tmp_path)
    assert (again.labels, again.task, again.max_length) == (TAGS, ner.task, 16)
    for name, tensor in ner.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)


def test_every_parameter_gets_a_gradient(ner, classification):
    for task, examples in ((ner, [KOREAN, tagged("the cat", (4, 7, "PS"))]), (classification, FILMS)):
        sum(task(task.pack(task.features(examples), examples)).values()).backward()
        learned = [(name, p) for name, p in task.named_parameters() if p.requires_grad]
        assert [name for name, p in learned if p.grad is None or not p.grad.abs().sum()] == []
        kept = {name.rpartition(".")[0] for name, p in task.named_parameters() if not p.requires_grad}
        assert kept == (set() if task is not ner or task.as_transformers else {"bert.pooler"})
        task.zero_grad()


def test_the_loss_of_a_batch_is_the_sum_of_its_examples(ner):
    examples = [KOREAN, tagged("the cat sat", (4, 7, "PS")), tagged("a")]
    together = ner(ner.pack(ner.features(examples), examples))["loss"]
    apart = [ner(ner.pack(ner.features([e]), [e]))["loss"] for e in examples]
    torch.testing.assert_close(together, sum(apart))


def scored(task, examples, tags: list[list[str]]) -> dict[str, float]:
    return judged(task, examples, tags)[0]


def judged(task, examples, tags: list[list[str]]) -> tuple[dict[str, float], Findings]:
    features = task.features(examples)
    rows = [row_of(task, feature, of) for feature, of in zip(features, tags, strict=True)]
    return task.score(examples, features, rows)


def row_of(task, feature, tags: list[str], begins_batch: bool = True) -> dict:
    ids = [task.labels.index(tag) for tag in tags]
    return {"example": feature.example, "tags": ids, "log_probability": -1.0, "begins_batch": begins_batch}


@pytest.fixture
def tagger(small_config, pieces):
    return TASKS["ner"](small_config, pieces, TAGS, TaskConfig(name="ner"), 16)


def test_each_ner_score_counts_what_its_name_says(tagger):
    # Gold: 서울시 LC, 이순신 PS. Predicted: 서울시 LC, 이순신은 PS (one character too many).
    gold = tagged(TEXT, (0, 3, "LC"), (5, 8, "PS"))
    found, findings = judged(tagger, [gold], [["B-LC", "I-LC", "O", "B-PS", "I-PS", "I-PS", "I-PS", "O", "O", "O"]])
    # Entities: LC 1 of 1; PS neither. 1 right, 1 wrong, 1 missed.
    assert found["entity_micro_f1"] == pytest.approx(1 / 2)
    assert found["entity_macro_f1"] == pytest.approx((1 + 0) / 2)
    # Characters: B-LC 1, I-LC 2 of 2, B-PS 1, I-PS 2 right and 1 wrong: F1 4/5. O: 7 right, 1 missed: 14/15.
    assert found["char_macro_f1"] == pytest.approx((1 + 1 + 1 + 4 / 5) / 4)
    # KLUE counts no spaces, of which there are three here, all right: O 4 right, 1 missed: 8/9.
    assert found["klue_char_macro_f1"] == pytest.approx((8 / 9 + 1 + 1 + 1 + 4 / 5) / 5)
    assert found["klue_char_macro_f1_without_o"] == pytest.approx((1 + 1 + 1 + 4 / 5) / 4)
    assert found["klue_entity_macro_f1"] == pytest.approx((1 + 0) / 2)
    # Tokens (10): 5 tags right and one O predicted as I-PS: B-LC 1, I-LC 1, B-PS 1, I-PS 2 right and 1 wrong.
    assert found["token_micro_f1"] == pytest.approx(2 * 5 / (2 * 5 + 1))
    assert found["token_macro_f1"] == pytest.approx((1 + 1 + 1 + 4 / 5) / 4)
    assert found["token_accuracy"] == pytest.approx(9 / 10)
    assert (findings.table["PS"].support, findings.table["PS"].f1) == (1, 0.0)


@pytest.mark.parametrize("tagging", TAGGINGS)
def test_klue_takes_a_stray_tag_for_no_entity_and_ours_begins_one_there(tagging, small_config, pieces):
    labels = ["O", *(f"{prefix}-PS" for prefix in TAGGINGS[tagging].prefixes)]
    task = TASKS["ner"](small_config, pieces, labels, TaskConfig(name="ner", tagging=tagging), 16)
    last = "E-PS" if tagging == "iobes" else "I-PS"
    tags = ["O", "O", "O", "I-PS", "I-PS", last, "O", "O", "O", "O"]
    found = scored(task, [tagged(TEXT, (5, 8, "PS"))], [tags])
    assert (found["entity_micro_f1"], found["klue_entity_macro_f1"]) == (1.0, 0.0)


def test_klue_counts_a_type_that_occurs_nowhere_in_characters_alone(tagger):
    found = scored(tagger, [tagged(TEXT, (5, 8, "PS"))], [["O"] * 3 + ["B-PS", "I-PS", "I-PS"] + ["O"] * 4])
    assert found["klue_entity_macro_f1"] == 1.0  # seqeval knows no LC here
    assert found["klue_char_macro_f1"] == 1.0  # B-LC and I-LC are 1.0 each
    assert found["entity_macro_f1"] == 0.5  # LC of the training data is 0 here


def test_the_originals_formula_averages_over_batches_and_counts_o(small_config, pieces):
    task = TASKS["ner"](small_config, pieces, TAGS, TaskConfig(name="ner", original_compat=True), 16)
    examples = [tagged("the cat sat", (4, 7, "PS")), tagged("dog ran", (0, 3, "PS"))]
    features = task.features(examples)
    rows = [row_of(task, features[0], ["O", "O", "O"]), row_of(task, features[1], ["B-PS", "O"])]
    # First batch: 2 of 3 tags right; O 2 right and 1 wrong, F1 4/5, B-PS 0. The second is all right.
    found, _ = task.score(examples, features, rows)
    assert {"loss", *found} == {*task.scores(task.task, task.labels, examples)}
    assert found["original_micro_f1"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["original_macro_f1"] == pytest.approx(((4 / 5 + 0) / 2 + 1) / 2)
    together, _ = task.score(examples, features, [rows[0], {**rows[1], "begins_batch": False}])
    # One batch: 4 of 5 right; O 3 right, 1 wrong: 6/7; B-PS 1 right, 1 missed: 2/3.
    assert together["original_micro_f1"] == pytest.approx(4 / 5)
    assert together["original_macro_f1"] == pytest.approx((6 / 7 + 2 / 3) / 2)


def test_iobes_tags_say_where_an_entity_ends_also_across_windows(small_config, pieces):
    labels = ["O", *(f"{prefix}-PS" for prefix in "BIES")]
    task = TASKS["ner"](small_config, pieces, labels, TaskConfig(name="ner", tagging="iobes"), 6)
    gold = tagged("the cat sat on a mat", (4, 14, "PS"), (17, 20, "PS"))  # cat sat on; mat
    features = task.features([gold])
    tags = [[labels[n] for n in task.pack([f], [gold]).targets["tag_labels"].tolist()] for f in features]
    assert tags == [["O", "B-PS", "I-PS"], ["E-PS", "O", "S-PS"]]
    assert task.ceiling([gold], features) == 1.0
    found, _ = task.score([gold], features, [row_of(task, f, of) for f, of in zip(features, tags, strict=True)])
    assert {found[name] for name in task.metrics} == {1.0}  # the ceiling too


def test_constrained_tags_are_never_stray_and_others_may_be(small_config, pieces):
    torch.manual_seed(3)
    examples = [tagged("the cat sat on a mat"), tagged("dog ran very good")]
    for head in HEADS:
        free, bound = (
            TASKS["ner"](small_config, pieces, TAGS, TaskConfig(name="ner", head=head, constrained=on), 16).eval()
            for on in (False, True)
        )
        with torch.no_grad():
            for parameter in free.parameters():
                torch.nn.init.normal_(parameter, std=0.7)
        bound.load_state_dict(free.state_dict())
        batch = free.pack(free.features(examples), examples)
        stray = [
            sum(check_iob2([TAGS[n] for n in row["tags"]]) is not None for row in task.predict(batch))
            for task in (free, bound)
        ]
        assert stray[1] == 0
    assert stray[0] > 0


@pytest.mark.parametrize("layers", [[-4, -3, -2, -1], [0, 1, 2, 3], [-2, 3], [2]])
def test_a_mix_reads_the_layers_that_are_named(layers):
    states, index = [torch.full((5, 2), float(layer)) for layer in range(3)], torch.tensor([4, 1])
    last = torch.full((2, 2), 3.0)  # of the last layer, the tokens alone
    found = LayerMix(layers, "concat", 2)([*states, last], index)
    assert found[:, ::2].tolist() == [[layer % 4 for layer in layers]] * 2


def test_several_layers_are_read_side_by_side_or_summed(small_config, pieces, tmp_path):
    batch_of = {}
    for combine in ("concat", "weighted_sum"):
        config = TaskConfig(name="ner", layers=[0, -1], combine=combine)
        task = TASKS["ner"](small_config, pieces, TAGS, config, 16).eval()
        batch = task.pack(task.features([KOREAN]), [KOREAN])
        states = [state.index_select(0, batch.targets["tag_index"]) for state in task.bert(batch).hidden_states]
        batch_of[combine] = task.compute(batch), states
        task.export(tmp_path)
        again = load(tmp_path)
        torch.testing.assert_close(again.compute(batch), task.compute(batch), rtol=0, atol=0)
    found, states = batch_of["concat"]
    torch.testing.assert_close(found, torch.cat([states[0], states[1]], -1))
    found, states = batch_of["weighted_sum"]  # as it begins, the mean
    torch.testing.assert_close(found, (states[0] + states[1]) / 2)


def test_a_mix_of_bf16_layers_is_summed_in_fp32_and_so_is_what_it_learns():
    torch.manual_seed(0)
    states, index = [torch.randn(400, 64).bfloat16() for _ in range(4)], torch.arange(400)
    mixes = [LayerMix([0, 1, 2, 3], "weighted_sum", 64) for _ in range(2)]
    found = [mix(of, index) for mix, of in zip(mixes, (states, [state.double() for state in states]), strict=True)]
    for out in found:
        (out * torch.linspace(-1, 1, 64)).sum().backward()
    torch.testing.assert_close(found[0].double(), found[1].double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(mixes[0].weights.grad, mixes[1].weights.grad, atol=0, rtol=1e-4)


def test_a_layer_that_is_not_there_is_refused(small_config, pieces):
    with pytest.raises(UserError, match=r"task.layers: \[-4\], but the model has the hidden states -2 to 1"):
        TASKS["ner"](small_config, pieces, TAGS, TaskConfig(name="ner", layers=[-4]), 16)


def test_the_surest_mistakes_show_what_should_have_been_said(tagger, classification):
    gold = tagged(TEXT, (0, 3, "LC"), (5, 8, "PS"))
    _, findings = judged(tagger, [gold], [["B-LC", "I-LC", "O", "B-PS", "I-PS", "I-PS", "I-PS", "O", "O", "O"]])
    (mistake,) = findings.mistakes
    assert (mistake.gold, mistake.predicted) == (
        "[서울시 LC]에 [이순신 PS]은 갔다 .",
        "[서울시 LC]에 [이순신은 PS] 갔다 .",
    )
    assert mistake.confidence == pytest.approx(math.exp(-1 / 10))  # the geometric mean over ten units
    rows = [{"example": 0, "probabilities": [0.7, 0.1, 0.2]}, {"example": 1, "probabilities": [1, 0, 0]}]
    _, findings = classification.score(FILMS, [], rows)
    assert findings.mistakes == [Mistake(1, ("a good film",), "good", "bad", 0.7)]


def test_the_confusion_matrix_counts_characters_by_type(tagger):
    gold = tagged(TEXT, (0, 3, "LC"), (5, 8, "PS"))
    _, findings = judged(tagger, [gold], [["B-PS", "I-PS", "O", "O", "O", "O", "O", "O", "O", "O"]])
    assert findings.draw.args == ([[8, 0, 0], [0, 0, 3], [3, 0, 0]], ["O", "LC", "PS"])


def test_an_entity_that_ends_inside_a_piece_cannot_be_reached_and_the_ceiling_says_so(tagger):
    # 서 alone is no piece (서울 is), 이순신 is three whole ones.
    gold = tagged(TEXT, (0, 1, "LC"), (5, 8, "PS"))
    assert tagger.ceiling([gold], tagger.features([gold])) == pytest.approx(1 / 2)
    # Every unit tagged as it should be: the score is the ceiling.
    right = scored(tagger, [gold], [tagger._gold(gold, tagger.features([gold])[0].units)])
    assert right["entity_micro_f1"] == right["entity_micro_f1_ceiling"] == pytest.approx(1 / 2)


def test_scores_of_a_long_text_run_over_all_its_sequences(tagger):
    text = " ".join(["cat"] * 20)
    gold = tagged(text, (0, 3, "PS"), (len(text) - 3, len(text), "PS"))
    # 20 pieces in two windows of 14: the first has the tags of 10, the second those of the other 10.
    found = scored(tagger, [gold], [["B-PS"] + ["O"] * 9, ["O"] * 9 + ["B-PS"]])
    assert found["entity_micro_f1"] == 1.0


def test_entities_are_given_as_ranges_of_the_text(tagger):
    features = tagger.features([KOREAN])
    row = row_of(tagger, features[0], ["B-LC", "I-LC", "O", "B-PS", "I-PS", "I-PS"] + ["O"] * 4)
    found = tagger.predictions([KOREAN], features, [row])[0]
    assert found["entities"] == [
        {"start": 0, "end": 3, "type": "LC", "text": "서울시"},
        {"start": 5, "end": 8, "type": "PS", "text": "이순신"},
    ]
    assert tagger.in_words(found) == "[서울시 LC]에 [이순신 PS]은 갔다 ."


def test_classification_scores_are_worked_out_by_hand(classification):
    examples = [Labelled(n, "a film", None, label) for n, label in enumerate(["good", "good", "bad", "bad"])]
    rows = [{"example": n, "probabilities": p} for n, p in enumerate([[0, 0, 1], [1, 0, 0], [1, 0, 0], [0.6, 0.4, 0]])]
    # good: 1 right, 1 missed: F1 2/3. bad: 2 right, 1 wrong: 4/5. fair: nowhere: 0.
    found, findings = classification.score(examples, [], rows)
    assert found == pytest.approx({"accuracy": 3 / 4, "micro_f1": 3 / 4, "macro_f1": (2 / 3 + 4 / 5 + 0) / 3})
    assert findings.draw.args == ([[2, 0, 0], [0, 0, 0], [1, 0, 1]], LABELS)


def test_scores_are_those_the_table_of_metrics_names(tagger, classification):
    found = {"loss", *scored(tagger, [KOREAN], [["O"] * 10])}
    assert found == {*tagger.scores(tagger.task, tagger.labels, [KOREAN])} > {*tagger.metrics}
    scores, _ = classification.score(FILMS, [], [{"example": 0, "probabilities": [1, 0, 0]}])
    found = {"loss", *scores}
    assert found == {*classification.scores(classification.task, LABELS, FILMS)} > {*classification.metrics}


def test_rare_classes_weigh_more_while_training_and_no_more_when_judged(small_config, pieces):
    task = TASKS["classification"](small_config, pieces, LABELS, TaskConfig(class_weights="balanced"), 16).eval()
    rows = [
        Labelled(n, "a film", None, label) for n, label in enumerate(["good", "good", "good", "bad", "bad", "fair"])
    ]
    task.learn_from(rows)
    expected = [6 / (3 * 2), 6 / (3 * 1), 6 / (3 * 3)]  # bad, fair, good
    torch.testing.assert_close(task.class_weights, torch.tensor(expected))
    batch = task.pack(task.features(rows), rows)
    logits = task.compute(batch)
    each = F.cross_entropy(logits, batch.targets["class_labels"], reduction="none")
    torch.testing.assert_close(task(batch)["loss"], each.sum())
    task.training = True  # without the dropout of train()
    weighed = each[:3].sum() * (2 / 3) + each[3:5].sum() * 1.0 + each[5] * 2.0
    torch.testing.assert_close(task(batch)["loss"], weighed)


def test_smoothing_gives_every_class_its_share_while_training(small_config, pieces):
    task = TASKS["classification"](small_config, pieces, LABELS, TaskConfig(label_smoothing=0.3), 16).eval()
    batch = task.pack(task.features(FILMS), FILMS)
    logarithms = task.compute(batch).log_softmax(-1)
    task.training = True
    expected = -(0.7 * (logarithms[0, 2] + logarithms[1, 0]) + 0.3 * logarithms.mean(-1).sum())
    torch.testing.assert_close(task(batch)["loss"], expected)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_does_not_smooth_labels_refuses_to(name):
    head = HEADS[name](4, 3)
    units = (torch.randn(2, 4), torch.tensor([0, 1]), torch.tensor([0, 2]))
    if name in SMOOTHED:
        assert head.loss(*units, 0.5) != head.loss(*units)
    else:
        with pytest.raises(ValueError, match="label smoothing"):
            head.loss(*units, 0.5)


@pytest.fixture
def regression(small_config, pieces, unsettled):
    torch.manual_seed(0)
    return unsettled(TASKS["regression"](small_config, pieces, [], TaskConfig(name="regression"), 16).eval())


PAIRS = [Labelled(1, "a good film", "a very good film", "4.5"), Labelled(2, "the cat sat", "dog ran", "0.25")]


def test_regression_is_that_of_transformers(regression, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    theirs = opened(regression, tmp_path, AutoModelForSequenceClassification)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    rows = [tokenizer(e.text, e.text_pair, return_tensors="pt") for e in PAIRS]
    found = [theirs(**row, labels=torch.tensor([float(e.label)])) for row, e in zip(rows, PAIRS, strict=True)]
    batch = regression.pack(regression.features(PAIRS), PAIRS)
    torch.testing.assert_close(regression(batch)["loss"], sum(one.loss for one in found))
    scores = [row["score"] for row in regression.predict(batch)]
    assert scores == pytest.approx([one.logits.item() for one in found], rel=1e-5)
    regression.export(tmp_path)
    assert [row["score"] for row in load(tmp_path).predict(batch)] == scores


def test_a_fresh_regression_head_starts_at_the_mean_in_units_of_the_deviation(small_config, pieces):
    regression = TASKS["regression"](small_config, pieces, [], TaskConfig(name="regression"), 16)
    weight, bias = regression.head["classifier"].parameters()
    drawn = weight.clone()
    regression.learn_from([Labelled(1, "a", None, "60"), Labelled(2, "b", None, "85")])  # deviation 12.5
    assert (regression.scale, bias.item(), regression.weights) == (16.0, 72.5 / 16, {"loss": 1 / 256})
    assert torch.equal(weight, drawn)


def test_a_learned_regression_head_gives_the_same_numbers_on_any_scale_and_from_a_folder(regression, tmp_path):
    batch = regression.pack(regression.features(PAIRS), PAIRS)
    before = [row["score"] for row in regression.predict(batch)]
    regression.learn_from([Labelled(1, "a", None, "1000"), Labelled(2, "b", None, "9000")])
    assert regression.scale == 4096.0
    assert [row["score"] for row in regression.predict(batch)] == pytest.approx(before, rel=1e-5)
    kept = {name: tensor.clone() for name, tensor in regression.state_dict().items()}
    regression.export(tmp_path)
    regression.restore(tmp_path)
    assert all(torch.equal(kept[name], tensor) for name, tensor in regression.state_dict().items())
    loaded = [row["score"] for row in load(tmp_path).predict(batch)]
    assert loaded == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize("spread", [0.001, 1.0, 10000.0])
def test_numbers_are_learned_whatever_their_unit(spread, small_config, pieces):
    torch.manual_seed(0)
    rows = [Labelled(n, "dog" if n % 2 else "cat", None, str((5 + n % 2) * spread)) for n in range(8)]
    regression = TASKS["regression"](small_config, pieces, [], TaskConfig(name="regression"), 16)
    regression.learn_from(rows)
    batch = regression.pack(regression.features(rows), rows)
    optimizer = torch.optim.AdamW(regression.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        (regression(batch)["loss"] * regression.weights["loss"] / 8).backward()
        optimizer.step()
    predicted = [row["score"] for row in regression.eval().predict(batch)]
    assert predicted == pytest.approx([float(row.label) for row in rows], abs=0.1 * spread)


def test_regression_scores_are_worked_out_by_hand(regression, tmp_path):
    examples = [Labelled(n, "a", None, label) for n, label in enumerate(["1", "2", "3"])]
    rows = [{"example": n, "score": score} for n, score in enumerate([1.0, 3.0, 2.0])]
    found, findings = regression.score(examples, [], rows)
    # Deviations -1 0 1 and -1 1 0: covariance 1 of 2, and so are the ranks'.
    assert found == pytest.approx({"pearson": 0.5, "spearman": 0.5, "mse": 2 / 3})
    assert [m.confidence for m in findings.mistakes] == [0.0, 1.0, 1.0]
    findings.draw(tmp_path / regression.picture)
    assert (tmp_path / regression.picture).read_bytes()[:4] == b"\x89PNG"


CONTEXT = "the cat sat on a mat"
ASKED = [
    Question(1, "q1", "dog ran", CONTEXT, ((4, 7), (8, 11))),
    Question(2, "q2", "a good film", CONTEXT, ()),
]


@pytest.fixture
def answering(small_config, pieces, unsettled):
    torch.manual_seed(0)
    config = TaskConfig(name="question_answering", max_answer_length=3)
    return unsettled(TASKS["question_answering"](small_config, pieces, ["answer", "no answer"], config, 16).eval())


def test_answering_is_that_of_transformers(answering, tmp_path):
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    theirs = opened(answering, tmp_path, AutoModelForQuestionAnswering)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    rows = [tokenizer(q.text, q.text_pair, return_tensors="pt") for q in ASKED]
    places = [(5, 5), (0, 0)]  # [CLS] dog ran [SEP] the cat; and [CLS]
    found = [
        theirs(**row, start_positions=torch.tensor([start]), end_positions=torch.tensor([end]))
        for row, (start, end) in zip(rows, places, strict=True)
    ]
    batch = answering.pack(answering.features(ASKED), ASKED)
    torch.testing.assert_close(answering(batch)["loss"], sum(one.loss for one in found))


def test_the_best_answer_is_the_best_of_all_pairs_of_the_texts_pieces(answering):
    batch = answering.pack(answering.features(ASKED), ASKED)
    logits = answering.compute(batch)
    for row, logit, begin in zip(answering.predict(batch), logits, (4, 5), strict=True):
        pairs = [(s, e) for s in range(begin, begin + 6) for e in range(s, min(s + 3, begin + 6))]
        best = max(pairs, key=lambda pair: (logit[pair[0], 0] + logit[pair[1], 1]).item())
        assert (row["start"], row["end"]) == best
        assert row["score"] == pytest.approx((logit[best[0], 0] + logit[best[1], 1]).item())
        assert row["none"] == pytest.approx(logit[0].sum().item())


def answers(task, *rows: tuple[int, int, float, float]) -> tuple[dict, Findings, list]:
    """Scores of ASKED and what is said, with these places, scores, and scores of having no answer."""
    features = task.features(ASKED)
    made = [
        {
            "example": f.example,
            "start": s,
            "end": e,
            "score": score,
            "probability": 0.5,
            "none": none,
            "none_probability": 0.25,
        }
        for f, (s, e, score, none) in zip(features, rows, strict=True)
    ]
    return *task.score(ASKED, features, made), task.predictions(ASKED, features, made)


def test_answers_are_scored_as_squad_does(answering):
    # q1: "cat sat" for "cat" or "sat": not exact; one word of two right and none missed, F1 2/3. q2: answered, wrongly.
    scores, findings, said = answers(answering, (5, 6, 2.0, 1.0), (6, 6, 2.0, 1.5))
    assert [row["answer"] for row in said] == ["cat sat", "cat"]
    assert (scores["exact_match"], scores["f1"]) == (0.0, pytest.approx(1 / 3))
    assert scores["has_answer_f1"] == pytest.approx(2 / 3)
    assert scores["no_answer_accuracy"] == 0.0
    assert {"loss", *scores} == {*answering.scores(answering.task, answering.labels, ASKED)}
    assert "no_answer_accuracy" not in answering.scores(answering.task, answering.labels, ASKED[:1])
    wrong = [Mistake("q1", ("dog ran", CONTEXT), "cat / sat", "cat sat", 0.5)]
    assert findings.mistakes == [*wrong, Mistake("q2", ("a good film", CONTEXT), "no answer", "cat", 0.5)]
    # Silent on q2 alone would be best: margins -1 and -0.5, so the threshold is between them.
    assert (scores["best_f1"], scores["best_f1_threshold"]) == (pytest.approx((2 / 3 + 1) / 2), -0.75)
    scores, _, said = answers(answering, (5, 5, 2.0, 1.0), (5, 5, 2.0, 2.5))
    assert [row["answer"] for row in said] == ["cat", ""]
    assert said[1]["probability"] == 0.25  # that there is none; the two ends of "the" have another
    assert (scores["exact_match"], scores["f1"], scores["no_answer_accuracy"]) == (1.0, 1.0, 1.0)
    assert said[0]["start"] == 4 and CONTEXT[4:7] == "cat"


def test_a_task_without_unanswerable_questions_always_answers_and_has_no_score_at_a_threshold(small_config, pieces):
    config = TaskConfig(name="question_answering")
    task = TASKS["question_answering"](small_config, pieces, ["answer"], config, 16)
    scores, _, said = answers(task, (5, 5, 2.0, 9.0), (6, 6, 2.0, 9.0))
    assert [row["answer"] for row in said] == ["cat", "cat"]
    assert (scores["f1"], scores["no_answer_accuracy"]) == (0.5, 0.0)
    assert {"loss", *scores} == {*task.scores(config, ["answer"], ASKED)}
    assert not {"best_f1", "best_f1_threshold"} & {*scores}


def test_the_best_window_answers_and_none_is_said_only_if_no_window_has_an_answer(small_config, pieces):
    config = TaskConfig(name="question_answering")
    task = TASKS["question_answering"](small_config, pieces, ["answer", "no answer"], config, 9)
    features = task.features(ASKED[:1])
    assert len(features) == 2  # [CLS] dog ran [SEP], four pieces of the text, [SEP]
    rows = [
        {"example": 0, "start": 4, "end": 4, "score": 1.0, "probability": 0.5, "none": 0.0, "none_probability": 0.1},
        {"example": 0, "start": 7, "end": 7, "score": 3.0, "probability": 0.6, "none": 5.0, "none_probability": 0.3},
    ]
    (said,) = task.predictions(ASKED[:1], features, rows)
    assert (said["answer"], said["no_answer_margin"]) == ("mat", -3.0)
    (said,) = task.predictions(ASKED[:1], [], [])  # of a text without a token
    assert (said["answer"], said["no_answer_margin"]) == ("", None)


@pytest.mark.parametrize("tagging", TAGGINGS)
@pytest.mark.parametrize("constrained", [False, True])
def test_constraints_cost_nothing_where_an_entity_crosses_a_windows_edge(small_config, pieces, tagging, constrained):
    labels = ["O", *(f"{prefix}-PS" for prefix in TAGGINGS[tagging].prefixes)]
    config = TaskConfig(name="ner", tagging=tagging, constrained=constrained)
    task = TASKS["ner"](small_config, pieces, labels, config, 6).eval()
    text = "the cat sat on a mat the dog ran"
    gold = [tagged(text, (4, len(text) - 4, "PS")), tagged("cat sat", (0, 7, "PS"))]
    features = task.features(gold)
    assert len(features) > 3
    batch = task.pack(features, gold)
    # Units that say their own tag: the head's matrix is the identity, and the vectors are the gold tags.
    certain = F.one_hot(batch.targets["tag_labels"], 16).float() * 20
    task.compute = lambda batch: certain
    with torch.no_grad():
        task.head.classifier.weight.copy_(torch.eye(len(labels), 16))
    found, _ = task.score(gold, features, task.predict(batch))
    assert found["entity_micro_f1"] == found["entity_micro_f1_ceiling"] == 1.0


def test_layers_that_no_head_reads_learn_nothing(small_config, pieces):
    sizes = replace(small_config, num_hidden_layers=3)
    task = TASKS["ner"](sizes, pieces, TAGS, TaskConfig(name="ner", layers=[-3, 0]), 16)
    learning = {name for name, p in task.named_parameters() if p.requires_grad}
    assert any(name.startswith("bert.encoder.layers.0.") for name in learning)
    assert not any(name.startswith(("bert.encoder.layers.1.", "bert.encoder.layers.2.")) for name in learning)


def test_a_head_without_its_parameters_or_with_others_is_refused(small_config, pieces, tmp_path):
    task = TASKS["ner"](small_config, pieces, TAGS, TaskConfig(name="ner", head="crf"), 16)
    task.export(tmp_path)
    extra = load_file(tmp_path / "heads.safetensors")
    for broken, said in (
        ({}, "heads.safetensors: no 'head.crf.transitions' among its weights"),
        (extra | {"head.other": torch.zeros(1)}, "'head.other' has no place in this model"),
        (
            extra | {"head.crf.transitions": torch.zeros(2, 2)},
            r"'head.crf.transitions' is \(2, 2\), but the model's is \(5, 5\)",
        ),
    ):
        save_file(broken, tmp_path / "heads.safetensors")
        with pytest.raises(UserError, match=said):
            load(tmp_path)
    (tmp_path / "heads.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no heads.safetensors, which holds the rest of its weights"):
        load(tmp_path)


def test_scores_are_no_coarser_than_fp32_whatever_the_precision(regression):
    examples = [
        Labelled(n, " ".join(["cat", "dog", "mat"][: 1 + n % 3] + ["a"] * (n // 3)), None, "1") for n in range(30)
    ]
    with torch.autocast("cpu", torch.bfloat16):
        rows = regression.predict(regression.pack(regression.features(examples), examples))
    scores = torch.tensor([row["score"] for row in rows])
    assert len(scores.unique()) > len(scores.bfloat16().unique())


def test_answers_out_of_reach_are_counted(answering):
    reachable = ASKED[0]
    long = Question(3, "q3", "dog", CONTEXT, ((0, len(CONTEXT)),))  # six pieces; three at most are allowed
    said = answering.in_short([reachable, long, ASKED[1]], answering.features([reachable, long, ASKED[1]]))
    assert said.startswith("the first answer of 1 question is out of reach")
    assert answering.in_short([reachable], answering.features([reachable])) == ""


def test_of_many_classes_the_shades_alone_are_drawn(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr("matplotlib.axes.Axes.text", lambda *given, **how: written.append(given))
    for count, numbers in ((40, 1600), (41, 0)):
        written.clear()
        pictures.confusion([[1] * count] * count, [f"class {n}" for n in range(count)], tmp_path / "many.png")
        assert len(written) == numbers
