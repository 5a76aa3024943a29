"""What people type first with a folder of ours: transformers' pipelines."""

import pytest
import torch

from bert import Bert
from bert.config import ModelConfig
from finetune.config import TaskConfig
from finetune.example_kinds import Labelled, Tagged
from finetune.judge import predict
from finetune.tasks.classification import Classification
from finetune.tasks.ner import Ner
from finetune.tasks.regression import Regression
from pretrain.objectives.masked_lm import MaskedLM

TEXT = "the cat sat on a mat"


@pytest.fixture
def config(small_tokenizer) -> ModelConfig:
    torch.manual_seed(0)
    return ModelConfig(small_tokenizer.vocab_size, 16, 2, 4, 20, 24, initializer_range=0.3)


@pytest.mark.parametrize("sentence_labels", [0, 2])
def test_fill_mask_gives_our_candidates(sentence_labels, config, small_tokenizer, tmp_path, capfd):
    from transformers import pipeline

    MaskedLM(config, small_tokenizer, sentence_labels).export(tmp_path)
    theirs = pipeline("fill-mask", str(tmp_path), top_k=4)("the [MASK] sat")
    (ours,) = Bert.from_pretrained(tmp_path).fill_mask("the [MASK] sat", 4)
    assert [found["token_str"].replace(" ", "") for found in theirs] == [c.token for c in ours]
    assert [found["score"] for found in theirs] == pytest.approx([c.probability for c in ours], abs=1e-5)


def test_text_classification_gives_our_label_and_probability(config, small_tokenizer, tmp_path, capfd):
    from transformers import pipeline

    task = Classification(config, small_tokenizer, ["bad", "good", "so-so"], TaskConfig(), 24).eval()
    task.export(tmp_path)
    (theirs,) = pipeline("text-classification", str(tmp_path))(TEXT)
    (ours,) = predict(task, [Labelled(1, TEXT, None, None)], 1, torch.device("cpu"))
    assert theirs["label"] == ours["label"]
    assert theirs["score"] == pytest.approx(ours["probabilities"][ours["label"]], abs=1e-5)


def test_a_truncating_pipeline_reads_as_much_of_a_text_as_we_do(config, small_tokenizer, tmp_path, capfd):
    from transformers import pipeline

    task = Classification(config, small_tokenizer, ["bad", "good"], TaskConfig(), 6).eval()
    task.export(tmp_path)
    (theirs,) = pipeline("text-classification", str(tmp_path))(TEXT, truncation=True)
    (ours,) = predict(task, [Labelled(1, TEXT, None, None)], 1, torch.device("cpu"))
    assert ours["tokens_cut"] > 0
    assert theirs["score"] == pytest.approx(ours["probabilities"][theirs["label"]], abs=1e-5)


def test_regression_gives_our_number(config, small_tokenizer, tmp_path, capfd):
    from transformers import pipeline

    task = Regression(config, small_tokenizer, [], TaskConfig(name="regression"), 24).eval()
    task.learn_from([Labelled(1, TEXT, None, "60"), Labelled(2, TEXT, None, "85")])
    task.export(tmp_path)
    (theirs,) = pipeline("text-classification", str(tmp_path))(TEXT)
    (ours,) = predict(task, [Labelled(1, TEXT, None, None)], 1, torch.device("cpu"))
    assert theirs["score"] == pytest.approx(ours["score"], rel=1e-5)


def test_ner_gives_our_tags(config, small_tokenizer, tmp_path, capfd):
    from transformers import pipeline

    task = Ner(config, small_tokenizer, ["O", "B-PER", "I-PER", "B-LOC"], TaskConfig(name="ner"), 24).eval()
    task.export(tmp_path)
    theirs = pipeline("ner", str(tmp_path))(TEXT)
    examples = [Tagged(1, TEXT, [], None)]
    features = task.features(examples)
    with torch.no_grad():
        (row,) = task.predict(task.pack(features, examples))
    tags = [task.labels[number] for number in row["tags"]]
    ours = [(a, b, tag) for (_, a, b), tag in zip(features[0].units, tags, strict=True) if tag != "O"]
    assert ours
    assert [(found["start"], found["end"], found["entity"]) for found in theirs] == ours
