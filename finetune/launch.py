"""From a FinetuneConfig to a finished run: files, features, loop, report."""

import json
import math
import shlex
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from bert.checking import FINGERPRINTS, LATER, LONGEST, SCORES
from bert.counting import count_of
from bert.encoder import encoders_in
from bert.errors import UserError, refuse_if
from bert.serving.served import Served
from bert.training import checkpoint, distributed, identity, lock, provenance
from bert.training import config as training_config
from bert.training.conclude import conclude
from bert.training.device import choose_device, refuse_unfit_attention
from bert.training.goal import Goal
from bert.training.loop import fit
from bert.training.metric import higher_is_better
from bert.training.mlflow_feed import resolve
from bert.training.provenance import UsedDataset
from bert.training.stopping import stop_requests
from bert.training.tracking import track
from finetune import builtin_labels, data_summary
from finetune.config import DataConfig, FinetuneConfig, TaskConfig
from finetune.data import RULE, Batches
from finetune.examples import Examples, read
from finetune.features import PAIRS_RULE, Feature
from finetune.formats import FORMATS
from finetune.judge import CLASSES, WORST, Evaluator, evaluator, predict, write_findings
from finetune.metrics import score_table
from finetune.model import build, resumed, start_folder
from finetune.options import check, with_defaults
from finetune.reading import format_name
from finetune.tasks import TASKS, kind_of
from finetune.tasks.task import Baseline, Task

MUCH_SHARED = 0.05
"""Share of an evaluation file's texts that are in the training file too above which a run warns."""


def train(config: FinetuneConfig, alone: bool = True) -> dict[str, float] | None:
    """Run, resume or decline a fine-tuning run, and print its results.

    Args:
        config: its options.
        alone: False for one of several runs, which must all have the same options.

    Returns:
        The metrics in metrics.json; None if the output was finished before.

    Raises:
        UserError: anything the user can fix.
        Stopped: a signal asked to stop.
    """
    config = with_defaults(config)
    refuse_if(check(config))
    resolve(config.tracking.uri)  # now, not once all text has been read
    device = choose_device(config.training)
    with lock.hold(Path(config.output)):
        return _continue(config, device, alone)


def _continue(config: FinetuneConfig, device: torch.device, alone: bool) -> dict[str, float] | None:
    output = Path(config.output)
    if (seeds := identity.started_with(output, "seeds")) and identity.has_begun(output):
        raise UserError(f"output: '{output}' holds runs of seeds={seeds}. Give seeds too, or use another folder.")
    if not identity.has_begun(output):
        start_folder(config)  # so that a wrong one is reported before all files are read
    train_set, judges = _read(config)
    facts = _facts(train_set, judges) | provenance.of_init(output, None if config.init == "none" else config.init)
    if training_config.micro_batches(config.training) > 1:
        facts["batches"] = f"rule {RULE}"
    if any(getattr(example, "text_pair", None) is not None for example in train_set.used):
        facts["pairs"] = f"rule {PAIRS_RULE}"
    accepted, defaults = tuple(config.accept_changes) if alone else None, asdict(FinetuneConfig())
    state = distributed.from_first(
        lambda: identity.state_of(output, asdict(config), facts, identity.FREE, accepted, defaults)
    )
    if state == "finished":
        identity.say_finished(output)
        return None
    return _run(config, train_set, judges, facts, device, state)


def check_only(config: FinetuneConfig) -> None:
    """Read options, files and, unless it is LATER, the model as a run would; print what they hold and the scores.

    Nothing is trained or written, and what depends on the machine (device, attention) is not checked.
    """
    config = with_defaults(config)
    refuse_if(check(config))
    train_set, judges = _read(config)
    labels = kind_of(config.task).labels(train_set.used, config.task)
    if config.init != LATER:
        task = _start(config, labels, resume=False)
        print(_in_words(config, task, train_set, task.features(train_set.used)))
    scores = [
        name if judged == "eval" else f"{judged.replace('.', '/', 1)}/{name}"
        for judged, examples in judges.items()
        for name in TASKS[config.task.name].scores(config.task, labels, examples.used)
    ]
    fingerprints = {name: value[:16] for name, value in _facts(train_set, judges).items()}
    print(f"the best epoch by {config.best}")
    print(f"{LONGEST}{config.data.max_length}\n{FINGERPRINTS}{json.dumps(fingerprints)}\n{SCORES}{', '.join(scores)}")


def _read(config: FinetuneConfig) -> tuple[Examples, dict[str, Examples]]:
    """The training file, and those to evaluate on (`eval`, `test.NAME`); prints a summary of each."""
    with distributed.first_alone():
        data = builtin_labels.files(config.task) if config.data.train == "builtin" else config.data
    train_set = read(Path(data.train), config.task, data, "data.train")
    labels = kind_of(config.task).labels(train_set.used, config.task)
    print(train_set.in_words("data.train"))
    _say_formats(config.task, data)
    _refuse_one_label(config.task, labels, train_set)
    refuse_if(TASKS[config.task.name].check_labels(config, labels))
    judges = {"eval": data.eval} | {f"test.{name}": path for name, path in data.test.items()}
    judges = {name: read(Path(path), config.task, data, f"data.{name}", labels) for name, path in judges.items()}
    for name, examples in judges.items():
        print(examples.in_words(f"data.{name}"))
        _warn_of_one_label(config.task, f"data.{name}", examples)
        if unreachable := kind_of(config.task).out_of_reach(examples.used, labels):
            print(f"data.{name}: WARNING: {unreachable}")
        if shared := train_set.shared_with(examples):
            warning = "WARNING: " if shared > MUCH_SHARED * len(examples.used) else ""
            several = f"{shared:,} of its {count_of(len(examples.used), examples.called)}"
            print(f"data.{name}: {warning}{several} {'is' if shared == 1 else 'are'} in data.train too")
    return train_set, judges


def _refuse_one_label(task: TaskConfig, labels: list[str], examples: Examples) -> None:
    if (same := kind_of(task).only_label(examples.used, labels)) is not None:
        rows = f"every row of '{examples.path}'" + (" that was not refused" if examples.refused else "")
        raise UserError(f"data.train: {rows} has the label {same!r}; nothing can be learned.")


def _say_formats(task: TaskConfig, data: DataConfig) -> None:
    """Print how tagged files are read where that was detected; a WARNING where it is not the same for all."""
    if data.format != "auto" or len(kind_of(task).holds) == 1:
        return
    files = {"train": data.train, "eval": data.eval} | {f"test.{name}": path for name, path in data.test.items()}
    found = {name: format_name(Path(path), task, data, "data.") for name, path in files.items() if Path(path).is_file()}
    differ = len({FORMATS[name].holds for name in found.values()}) > 1
    said = ", ".join(f"data.{name} as {format_}, {FORMATS[format_].holds}" for name, format_ in found.items())
    print(f"{'WARNING: ' * differ}read {said}")


def _warn_of_one_label(task: TaskConfig, argument: str, examples: Examples) -> None:
    kind = kind_of(task)
    if (same := kind.only_label(examples.used, kind.labels(examples.used, task))) is not None:
        print(f"{argument}: WARNING: every row of '{examples.path}' has the label {same!r}; scores on it say little")


def _facts(train_set: Examples, judges: dict[str, Examples]) -> dict[str, str]:
    """The fingerprint of each file."""
    return {"train": _fingerprint(train_set)} | {name: _fingerprint(examples) for name, examples in judges.items()}


def _fingerprint(examples: Examples) -> str:
    return provenance.fingerprint(repr(example) for example in examples.used)


def _run(
    config: FinetuneConfig,
    train_set: Examples,
    judges: dict[str, Examples],
    facts: dict[str, str],
    device: torch.device,
    state: Literal["new", "unfinished", "changed"],
) -> dict[str, float]:
    output, training = Path(config.output), config.training
    task = _start(config, kind_of(config.task).labels(train_set.used, config.task), resume=state != "new")
    refuse_unfit_attention(training, device, task.bert.config)
    task.to(device).learn_from(train_set.used)
    features = task.features(train_set.used)
    if all(feature.is_empty for feature in features):
        raise UserError(f"data.train: the tokenizer of '{config.init}' finds no tokens in any of its texts.")
    print(_in_words(config, task, train_set, features))
    size, parts = training_config.micro_batch_size(training), training_config.micro_batches(training)
    pack = partial(task.pack, examples=train_set.used)
    batches = Batches(features, pack, training.batch_size, parts, training.seed)
    if training.eval_every is None:
        training = replace(training, eval_every=-(-batches.per_epoch // parts))
    last = math.inf
    if state == "changed":
        last = checkpoint.change_course(output, task, identity.started_with(output, "eval") == facts["eval"])
    init = config.init if state == "new" and config.init != "none" else None
    tags = provenance.of_run("finetune", device, facts, init) | {"task": config.task.name} | _TABLE_TAG
    if state != "new":
        tags |= identity.accepted_tag(asdict(config), facts, tuple(config.accept_changes))
    described = asdict(config) | {"model": provenance.model_params(task, task.bert.config)}
    with track(output, config.tracking, described, tags, state != "new", last) as tracker, stop_requests():
        if distributed.is_first():
            identity.claim(output, asdict(config), facts)  # not before the tracker cut off a changed run's lines
        tracker.datasets(_datasets(train_set, judges, facts))
        evaluators = _evaluators(task, judges, size, device)
        evaluate_now = evaluators["eval"]
        goal = Goal(f"valid/{config.best}", higher_is_better(config.best), "best", among_equals="valid/loss")
        result = fit(task, batches, lambda: evaluate_now()[0], training, goal, output, tracker)
        print(f"\nthe best by {config.best}, at step {result['best_step']}:")
        scores, findings = evaluate_now()  # the root holds the best weights: their scores, not the last epoch's
        result |= scores
        if distributed.is_first():
            write_findings(task, findings, output)
        result |= _test(evaluators)
        least = task.baseline(train_set.used, judges["eval"].used)
        result |= {f"baseline/{name}": value for name, value in least.scores.items()}
        for encoder in encoders_in(task):
            encoder.attend_by("sdpa")  # from here on the model is used as its users will, on any device
        if distributed.is_first():
            tracker.log(int(result["steps"]), of_the_best(result))
            served = _served(task, judges["eval"], device)
            conclude(output, result, served, result["best_step"], (CLASSES, WORST, task.picture), tracker)
    if distributed.is_first():
        _print_report(config, result, task, least, judges["eval"], device)
    return result


def of_the_best(result: dict[str, float]) -> dict[str, float]:
    """The kept weights' scores, for tracking: best/... beside the curves of valid/..., test/... and baseline/..."""
    named = {name.replace("valid/", "best/", 1): value for name, value in result.items()}
    return {name: value for name, value in named.items() if name.startswith(("best/", "test/", "baseline/"))}


def _evaluators(task: Task, judges: dict[str, Examples], size: int, device: torch.device) -> dict[str, Evaluator]:
    """By the names of `judges`; scores are named valid/... on data.eval, and test/NAME/... on files of data.test."""
    named = {name: "valid" if name == "eval" else name.replace(".", "/", 1) for name in judges}
    return {name: evaluator(task, judges[name], size, device, prefix) for name, prefix in named.items()}


def _test(evaluators: dict[str, Evaluator]) -> dict[str, float]:
    """The best weights' scores on the files of data.test."""
    found = {}
    for name in (name for name in evaluators if name.startswith("test.")):
        print(f"\ndata.{name}:")
        scores, _ = evaluators[name]()
        found |= scores
    return found


def _start(config: FinetuneConfig, labels: list[str], resume: bool) -> Task:
    """A run's initial model or, when it resumes, its newest checkpoint's, since `init` may be gone by then."""
    newest = distributed.from_first(lambda: checkpoint.newest(Path(config.output))) if resume else None
    if newest is not None:
        task = resumed(config, labels, newest)
    else:
        task, said = build(config, labels)
        print(said)
    task.bert.freeze(config.training.freeze)
    _refuse_frozen_noise(config, task)
    for encoder in encoders_in(task):
        encoder.gradient_checkpointing = config.training.gradient_checkpointing
    return task


def _refuse_frozen_noise(config: FinetuneConfig, task: Task) -> None:
    """Refuse reinitialised layers that are frozen, and so would stay random."""
    layers = task.bert.encoder.layers
    if config.reinit_layers and any(layer in task.bert.frozen for layer in layers[-config.reinit_layers :]):
        there = count_of(len(layers), "layer")
        begun = f"reinit_layers={config.reinit_layers} starts the top ones of {there} at random"
        raise UserError(f"training.freeze: {config.training.freeze!r}, but {begun}; these must not be frozen.")


def _in_words(config: FinetuneConfig, task: Task, examples: Examples, features: list[Feature]) -> str:
    run, learned = _learned_positions(config)
    most = min(task.bert.config.max_position_embeddings, learned or math.inf)
    said = [
        *_beyond_pretraining(run, learned, features),
        *data_summary.in_words(examples, features, task.max_length, task.tokenizer, task.labels, task.task.unit, most),
        f"sequences: {len(features):,}",
    ]
    if more := task.in_short(examples.used, features):
        said[-1] += f"; {more}"
    return "\n".join(said)


def _learned_positions(config: FinetuneConfig) -> tuple[Path, int | None]:
    """The run that the model comes from, and how many positions it learned; None where another model had some before,
    or nothing is known of it."""
    run = Path(provenance.parent(Path(config.init))["parent_folder"])
    went_on = identity.started_with(run, "init") is not None
    return run, None if went_on else identity.started_with(run, "data.max_length")


def _beyond_pretraining(run: Path, learned: int | None, features: list[Feature]) -> list[str]:
    """A warning where sequences are longer than those that a run of this project learned its positions from."""
    longest = max((len(feature.token_ids) for feature in features), default=0)
    if learned is None or longest <= learned:
        return []
    trained = f"'{run}' was pretrained with data.max_length={learned}, and has not learned the positions beyond"
    return [f"WARNING: sequences of up to {longest} tokens, but {trained}"]


_TABLE_TAG = {"mlflow.loggedArtifacts": json.dumps([{"path": path, "type": "table"} for path in (CLASSES, WORST)])}
"""With this tag the MLflow UI shows the files as tables."""


def _datasets(train_set: Examples, judges: dict[str, Examples], facts: dict[str, str]) -> list[UsedDataset]:
    parts = [(train_set, facts["train"], "training")]
    parts += [(examples, facts[name], "evaluation" if name == "eval" else "test") for name, examples in judges.items()]
    return [
        UsedDataset(
            name=examples.path.name,
            digest=fingerprint[:16],
            source=str(examples.path.absolute()),
            context=context,
            profile={"rows": examples.rows, "used": len(examples.used), "refused": len(examples.refused)},
        )
        for examples, fingerprint, context in parts
    ]


def _served(task: Task, examples: Examples, device: torch.device) -> Served:
    """An example request and its answer: two texts where the model was evaluated on two."""
    kind, texts = kind_of(task.task), ["a text"]
    if getattr(examples.used[0], "text_pair", None) is not None:
        texts.append("another text")
    (answer,) = predict(task.eval(), [kind.unlabelled(1, *texts)], 1, device)
    return Served("task", dict(zip((*kind.columns, "text_pair"), texts, strict=False)), answer)


def _print_report(
    config: FinetuneConfig,
    result: dict[str, float],
    task: Task,
    least: Baseline,
    eval_set: Examples,
    device: torch.device,
) -> None:
    shown = {name: value for name, value in result.items() if name.startswith(("valid/", "test/"))}
    print(f"\n{score_table(shown)}")
    print(f"\n  on data.eval {least.in_words()}")
    print("\nthe first texts of data.eval:")
    for prediction in predict(task.eval(), eval_set.used[:3], 3, device):
        said = task.in_words(prediction)
        print(f"  {said[:200]}{'...' if len(said) > 200 else ''}")
    print(f"\nmodel and results:  {config.output}")
    print(f"picture:            {config.output}/{task.picture}")
    print(f"surest mistakes:    {config.output}/{WORST}")
    folder = shlex.quote(config.output)
    print(f"use it:             python run_finetune.py predict --checkpoint {folder} --input FILE --output FILE")
