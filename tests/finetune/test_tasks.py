"""Losses against transformers' classes, scores against counts made by hand, folders that open elsewhere."""

import pytest
import torch
import torch.nn.functional as F

from finetune.config import TaskConfig
from finetune.examples import Labelled, Tagged
from finetune.heads import HEADS
from finetune.model import load
from finetune.tasks import TASKS

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


def test_tagging_scores_are_those_of_transformers(ner, tmp_path):
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    theirs = opened(ner, tmp_path, AutoModelForTokenClassification)
    batch = ner.pack(ner.features([KOREAN]), [KOREAN])
    row = AutoTokenizer.from_pretrained(tmp_path)(TEXT, return_tensors="pt")
    torch.testing.assert_close(ner.head.classifier(ner._units(batch)), theirs(**row).logits[0, 1:-1])


def test_a_folder_is_read_back_whole(ner, tmp_path):
    ner.export(tmp_path)
    again = load(tmp_path)
    assert (again.labels, again.task, again.max_length) == (TAGS, ner.task, 16)
    for name, tensor in ner.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)


def test_every_parameter_gets_a_gradient(ner, classification):
    for task, examples in ((ner, [KOREAN, tagged("the cat", (4, 7, "PS"))]), (classification, FILMS)):
        sum(task(task.pack(task.features(examples), examples)).values()).backward()
        dead = [name for name, p in task.named_parameters() if p.grad is None or not p.grad.abs().sum()]
        assert dead == []
        task.zero_grad()


def test_the_loss_of_a_batch_is_the_sum_of_its_examples(ner):
    examples = [KOREAN, tagged("the cat sat", (4, 7, "PS")), tagged("a")]
    together = ner(ner.pack(ner.features(examples), examples))["loss"]
    apart = [ner(ner.pack(ner.features([e]), [e]))["loss"] for e in examples]
    torch.testing.assert_close(together, sum(apart))


def scored(task, examples, tags: list[list[str]]) -> dict[str, float]:
    features = task.features(examples)
    task.judged = (examples, features)
    pairs = zip(features, tags, strict=True)
    return task.score([{"example": f.example, "tags": [TAGS.index(tag) for tag in of]} for f, of in pairs])


@pytest.fixture
def tagger(small_config, pieces):
    return TASKS["ner"](small_config, pieces, TAGS, TaskConfig(name="ner"), 16)


def test_each_ner_score_counts_what_its_name_says(tagger):
    # Gold: 서울시 LC, 이순신 PS. Predicted: 서울시 LC, 이순신은 PS (one character too many).
    gold = tagged(TEXT, (0, 3, "LC"), (5, 8, "PS"))
    found = scored(tagger, [gold], [["B-LC", "I-LC", "O", "B-PS", "I-PS", "I-PS", "I-PS", "O", "O", "O"]])
    # Entities: LC 1 of 1; PS neither. 1 right, 1 wrong, 1 missed.
    assert found["entity_micro_f1"] == pytest.approx(1 / 2)
    assert found["entity_macro_f1"] == pytest.approx((1 + 0) / 2)
    # Characters: B-LC 1, I-LC 2 of 2, B-PS 1, I-PS 2 right and 1 wrong: F1 4/5. O: 7 right, 1 missed: 14/15.
    assert found["char_macro_f1"] == pytest.approx((1 + 1 + 1 + 4 / 5) / 4)
    assert found["klue_char_macro_f1"] == pytest.approx((14 / 15 + 1 + 1 + 1 + 4 / 5) / 5)
    # Tokens (10): 5 tags right and one O predicted as I-PS: B-LC 1, I-LC 1, B-PS 1, I-PS 2 right and 1 wrong.
    assert found["token_micro_f1"] == pytest.approx(2 * 5 / (2 * 5 + 1))
    assert found["token_macro_f1"] == pytest.approx((1 + 1 + 1 + 4 / 5) / 4)
    assert found["token_accuracy"] == pytest.approx(9 / 10)
    assert (tagger.table["PS"].support, tagger.table["PS"].f1) == (1, 0.0)


def test_the_confusion_matrix_counts_characters_by_type(tagger):
    gold = tagged(TEXT, (0, 3, "LC"), (5, 8, "PS"))
    scored(tagger, [gold], [["B-PS", "I-PS", "O", "O", "O", "O", "O", "O", "O", "O"]])
    assert tagger.confusion == ([[8, 0, 0], [0, 0, 3], [3, 0, 0]], ["O", "LC", "PS"])


def test_an_entity_that_ends_inside_a_piece_cannot_be_reached_and_the_ceiling_says_so(tagger):
    # 서 alone is no piece (서울 is), 이순신 is three whole ones.
    gold = tagged(TEXT, (0, 1, "LC"), (5, 8, "PS"))
    assert tagger.ceiling([gold], tagger.features([gold])) == pytest.approx(1 / 2)


def test_scores_of_a_long_text_run_over_all_its_sequences(tagger):
    text = " ".join(["cat"] * 20)
    gold = tagged(text, (0, 3, "PS"), (len(text) - 3, len(text), "PS"))
    found = scored(tagger, [gold], [["B-PS"] + ["O"] * 13, ["O"] * 5 + ["B-PS"]])
    assert found["entity_micro_f1"] == 1.0


def test_entities_are_given_as_ranges_of_the_text(tagger):
    features = tagger.features([KOREAN])
    row = {"example": 0, "tags": [TAGS.index(t) for t in ["B-LC", "I-LC", "O", "B-PS", "I-PS", "I-PS"] + ["O"] * 4]}
    found = tagger.predictions([KOREAN], features, [row])[0]
    assert found["entities"] == [
        {"start": 0, "end": 3, "type": "LC", "text": "서울시"},
        {"start": 5, "end": 8, "type": "PS", "text": "이순신"},
    ]
    assert tagger.in_words(found) == "[서울시 LC]에 [이순신 PS]은 갔다 ."


def test_classification_scores_are_worked_out_by_hand(classification):
    examples = [Labelled(n, "a film", None, label) for n, label in enumerate(["good", "good", "bad", "bad"])]
    classification.judged = (examples, [])
    rows = [{"example": n, "probabilities": p} for n, p in enumerate([[0, 0, 1], [1, 0, 0], [1, 0, 0], [0.6, 0.4, 0]])]
    # good: 1 right, 1 missed: F1 2/3. bad: 2 right, 1 wrong: 4/5. fair: nowhere: 0.
    found = classification.score(rows)
    assert found == pytest.approx({"accuracy": 3 / 4, "micro_f1": 3 / 4, "macro_f1": (2 / 3 + 4 / 5 + 0) / 3})
    assert classification.confusion == ([[2, 0, 0], [0, 0, 0], [1, 0, 1]], LABELS)


def test_scores_are_those_the_table_of_metrics_names(tagger, classification):
    assert set(scored(tagger, [KOREAN], [["O"] * 10])) == set(tagger.metrics)
    classification.judged = (FILMS, [])
    assert set(classification.score([{"example": 0, "probabilities": [1, 0, 0]}])) == set(classification.metrics)
