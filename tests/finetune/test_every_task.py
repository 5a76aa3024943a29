"""The contract of tasks, kept by every one of the table: what the loop, judging, prediction and serving rely on."""

import json
from pathlib import Path

import pytest
import torch

from bert.training.device import autocast
from finetune.config import TaskConfig
from finetune.example_kinds import KINDS, Labelled, Question, Tagged
from finetune.examples import Examples
from finetune.heads import HEADS
from finetune.judge import WORST, evaluator, predict, write_findings
from finetune.model import load
from finetune.tasks import TASKS, kind_of

CPU = torch.device("cpu")
CAT = ((4, 7),)  # in "the cat sat"

OF_KIND = {
    "labels": [
        Labelled(1, "a good film", None, "good"),
        Labelled(2, "a bad film", None, "bad"),
        Labelled(3, "good", None, "good"),
    ],
    "numbers": [
        Labelled(1, "a good film", "the cat", "1.5"),
        Labelled(2, "a", "very bad", "-2"),
        Labelled(3, "cat", "cat", "0"),
    ],
    "tags": [
        Tagged(1, "the cat", [(0, 3), (4, 7)], ["O", "B-ANIMAL"]),
        Tagged(2, "dog ran", [(0, 3), (4, 7)], ["B-ANIMAL", "O"]),
        Tagged(3, "the mat", [(0, 3), (4, 7)], ["O", "O"]),
    ],
    "questions": [
        Question(1, "1", "the", "the cat sat", CAT),
        Question(2, "2", "ran", "a good film", ()),
        Question(3, "3", "dog", "the cat sat on a mat and a very bad dog ran on a mat", CAT),
    ],
}


UNDIVIDED: set[str] = set()
"""Tasks whose batches processes cannot share: those that do not say what their targets have a value for."""


@pytest.fixture(params=TASKS)
def made(request, small_config, pieces, pretrained):
    """A task with weights that were taken up, and its examples."""
    config = TaskConfig(name=request.param)
    examples = OF_KIND[TASKS[request.param].kind]
    labels = kind_of(config).labels(examples, config)
    torch.manual_seed(0)
    task = TASKS[request.param](small_config, pieces, labels, config, 16)
    assert "encoder loaded" in task.start_from(pretrained)
    task.learn_from(examples)
    return task.eval(), examples


def test_every_kind_of_example_is_some_tasks():
    assert {task.kind for task in TASKS.values()} == {*KINDS} == {*OF_KIND}


def test_its_sums_are_what_it_counts_and_every_parameter_learns(made):
    task, examples = made
    batch = task.pack(task.features(examples), examples)
    sums, counts = task(batch), task.counts(batch)
    assert sums.keys() == counts.keys() >= task.weights.keys() and all(counts.values())
    assert all(value.shape == () and torch.isfinite(value) for value in sums.values())
    sum(sums[name] for name in task.weights).backward()
    assert [name for name, p in task.named_parameters() if p.grad is None] == []
    depths = {task.depth(name) for name, _ in task.named_parameters()}
    heads = {0 for name, _ in task.named_parameters() if not name.startswith("bert.")}
    assert depths == {1, 2} | heads  # the layer and the embeddings, and a head where there is one


def test_how_features_are_put_together_changes_no_sum(made):
    task, examples = made
    features = task.features(examples)
    whole = task(task.pack(features, examples))
    apart = [task(task.pack([feature], examples)) for feature in reversed(features)]
    for name, value in whole.items():
        torch.testing.assert_close(sum(part[name] for part in apart), value, atol=1e-4, rtol=1e-4)


def test_processes_may_share_its_batch(made):
    task, examples = made
    batch = task.pack(task.features(examples), examples)
    if task.targets is None:
        assert task.task.name in UNDIVIDED
        return
    whole, numbers = task(batch), torch.arange(batch.num_sequences)
    group = numbers // task.together
    parts = [batch.take(numbers[own], task.targets) for own in (group % 2 == 0, group % 2 == 1)]
    for name, value in whole.items():
        torch.testing.assert_close(sum(task(part)[name] for part in parts), value, atol=1e-4, rtol=1e-4)
        assert sum(task.counts(part)[name] for part in parts) == task.counts(batch)[name]


def test_it_is_judged_by_what_it_says_and_its_findings_are_written(made, tmp_path, capsys):
    task, examples = made
    found, findings = evaluator(task, Examples(Path("eval"), examples, len(examples), []), 2, CPU)()
    assert {*found} == {f"valid/{name}" for name in task.scores(task.task, task.labels, examples)}
    assert {"loss", task.best, *task.metrics} <= {*task.scores(task.task, task.labels, examples)}
    write_findings(task, findings, tmp_path)
    worst = json.loads((tmp_path / WORST).read_text())
    assert worst["columns"] == [task.found_by, "gold", "predicted", task.sureness, *task.text_columns]
    assert [len(row) for row in worst["data"]] == [len(worst["columns"])] * len(findings.mistakes)
    assert (tmp_path / task.picture).read_bytes().startswith(b"\x89PNG")


def test_it_answers_each_text_without_labels_the_same_after_it_was_written_and_read(made, tmp_path):
    task, examples = made
    pairs = [(example.text, getattr(example, "text_pair", None)) for example in examples]
    asked = [kind_of(task.task).unlabelled(line, *texts) for line, texts in enumerate(pairs, 1)]
    answers = predict(task, asked, 2, CPU)
    names = (*kind_of(task.task).columns, "text_pair")
    assert [tuple(answer.get(name) for name in names[:2]) for answer in answers] == pairs
    assert all(task.in_words(answer) and json.dumps(answer) for answer in answers)
    task.export(tmp_path)
    assert predict(load(str(tmp_path)), asked, 2, CPU) == answers


HEADED = [{"name": name} for name in TASKS] + [{"name": "ner", "head": head} for head in HEADS if head != "linear"]
WITH_GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))


@pytest.mark.parametrize("device", ["cpu", WITH_GPU])
@pytest.mark.parametrize("options", HEADED, ids=lambda options: "-".join(options.values()))
def test_in_bf16_it_learns_and_answers_much_as_in_fp32(options, device, small_config, pieces, pretrained):
    config, device = TaskConfig(**options), torch.device(device)
    examples = OF_KIND[TASKS[config.name].kind]
    labels = kind_of(config).labels(examples, config)
    torch.manual_seed(0)
    task = TASKS[config.name](small_config, pieces, labels, config, 16)
    task.start_from(pretrained)
    task.learn_from(examples)
    batch = task.eval().pack(task.features(examples), examples)
    expected = sum(task(batch)[name] for name in task.weights).detach()
    task.to(device).precision = "bf16"
    for part in task.modules():
        part.training = isinstance(part, torch.nn.LSTM)  # which a GPU goes back through in training only
    with autocast("bf16", device):
        loss = sum(task(batch.to(device))[name] for name in task.weights)
    loss.backward()
    torch.testing.assert_close(loss.detach().cpu(), expected, atol=0.0, rtol=0.05)
    learned = [parameter.grad for parameter in task.parameters() if parameter.requires_grad]
    assert all(torch.isfinite(gradient).all() for gradient in learned)
    answers, first = predict(task, examples, 2, device), kind_of(config).columns[0]
    assert [answer[first] for answer in answers] == [example.text for example in examples]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (  # F1 of good 4/5, of bad 0
            "classification",
            "always 'good', the most frequent label of data.train, "
            "has accuracy 0.6667, micro_f1 0.6667, macro_f1 0.4000",
        ),
        (  # (25/9 + 121/36 + 1/36) / 3
            "regression",
            "always -0.167, the mean of data.train, has mse 2.0556, pearson 0.0000, spearman 0.0000",
        ),
        ("ner", "never an entity has entity_micro_f1 0.0000, entity_macro_f1 0.0000"),
        ("question_answering", "never an answer has exact_match 0.3333, f1 0.3333"),
    ],
)
def test_what_one_answer_to_everything_would_reach_is_known(name, said, small_config, pieces):
    examples = OF_KIND[TASKS[name].kind]
    labels = ["bad", "good"] if name == "classification" else ["O", "B-ANIMAL"]
    task = TASKS[name](small_config, pieces, labels, TaskConfig(name=name), 16)
    found = task.baseline(examples, examples)
    assert found.in_words() == said
    assert found.scores.keys() <= {*task.metrics}
