"""A task's model: started from a pretrained folder or random weights, or loaded from a fine-tuned one."""

from pathlib import Path

from bert import hub
from bert.counting import count_of
from bert.errors import UserError
from bert.training.device import seed_torch
from finetune.config import FinetuneConfig, TaskConfig
from finetune.reading import reading
from finetune.tasks import TASKS, kind_of
from finetune.tasks.task import Task


def start_folder(config: FinetuneConfig) -> hub.ModelFolder:
    """The folder to start from, or whose sizes and tokenizer are used; its weights are not read yet.

    Raises:
        UserError: there is no such folder, or it holds no BERT.
    """
    argument = "like" if config.init == "none" else "init"
    return hub.open_folder(getattr(config, argument), argument)


def build(config: FinetuneConfig, labels: list[str]) -> tuple[Task, str]:
    """The model, from a folder or from random weights, and a line on where its weights come from.

    Raises:
        UserError: there is no such folder, or it holds no BERT, or one whose maximum length is below data.max_length.
    """
    folder = start_folder(config)
    task = _new(config, folder, labels)
    if config.init == "none":
        return task, f"random weights, with the sizes and the tokenizer of {folder.path}"
    if _has_head_of(folder, task) and not config.reinit_layers:
        task.restore(folder.path)
        return task, f"{folder.path}: encoder and head loaded, since it has learned the same task and labels"
    said = f"{folder.path}: {task.start_from(folder.path)}"
    if config.reinit_layers:
        task.bert.reinitialise(config.reinit_layers)
        said += f"; reinitialised: the pooler and the top {count_of(config.reinit_layers, 'layer')}"
    return task, said


def _has_head_of(folder: hub.ModelFolder, task: Task) -> bool:
    """Whether a folder was fine-tuned for the same task, labels and head, so that its head can be taken over."""
    if "bert_research" not in folder.described or _labels_in(folder) != task.labels:
        return False
    learned = folder.described["bert_research"]["task"]
    return all(learned[name] == getattr(task.task, name) for name in ("name", *task.head_options))


def resumed(config: FinetuneConfig, labels: list[str], checkpoint: Path) -> Task:
    """The model of a run's own checkpoint, with the current options.

    Raises:
        UserError: they ask for another shape than the checkpoint's, or the labels are not those it was trained on.
    """
    folder = hub.open_folder(str(checkpoint), "output")
    learned = _labels_in(folder)
    if {*labels} != {*learned}:
        several = (("new", set(labels) - {*learned}), ("gone", set(learned) - {*labels}))
        changes = "; ".join(f"{what}: {', '.join(sorted(names)[:8])}" for what, names in several if names)
        raise UserError(
            f"data.train: its labels are not those that the run in '{config.output}' has learned ({changes}); other "
            f"labels need another folder."
        )
    task = _new(config, folder, learned)
    task.restore(folder.path)
    return task


def _new(config: FinetuneConfig, folder: hub.ModelFolder, labels: list[str]) -> Task:
    """A model with the folder's sizes and random weights."""
    if config.data.max_length > folder.config.max_position_embeddings:
        raise UserError(
            f"data.max_length: {config.data.max_length}, but the model of '{folder.path}' reads "
            f"{folder.config.max_position_embeddings} tokens at most."
        )
    kind = TASKS[config.task.name]
    kind.refuse_unfit(config.task, folder)
    pairs = config.data.text_pair is not None or len(kind_of(config.task).columns) > 1
    needed, known = kind.pair_segments if pairs else 1, folder.config.type_vocab_size
    if needed > known:
        raise UserError(f"init: a pair of texts has {needed} segments, but the model of '{folder.path}' knows {known}.")
    seed_torch(config.training.seed)
    how = (config.data.max_length, config.training.attention, config.data.overlap)
    task = kind(folder.config, folder.tokenizer, labels, config.task, *how)
    task.read_as, task.precision = reading(config.data, config.task), config.training.precision
    return task


def load(folder: str) -> Task:
    """A fine-tuned model: a folder, or an id on the Hugging Face hub.

    Raises:
        UserError: the folder holds no model fine-tuned by this project.
    """
    _refuse_no_model(Path(folder))
    opened = hub.open_folder(folder, "checkpoint")
    described = opened.described
    if "bert_research" not in described:
        raise UserError(f"'{folder}' holds a model, but none that was fine-tuned by this project.")
    ours, labels = described["bert_research"], _labels_in(opened)
    task_config = TaskConfig(**ours["task"])
    build = TASKS[task_config.name]
    read = (ours["max_length"], "sdpa", ours.get("overlap"))
    task = build(opened.config, opened.tokenizer, labels, task_config, *read)
    task.read_as, task.precision = ours.get("data", {}), ours.get("precision", "auto")
    task.restore(opened.path)
    return task.eval()


def _labels_in(folder: hub.ModelFolder) -> list[str]:
    """The label set of a fine-tuned folder."""
    names = folder.described["id2label"]
    return folder.described["bert_research"].get("labels", [names[str(number)] for number in range(len(names))])


def _refuse_no_model(folder: Path) -> None:
    """Refuse an output without a model in its root, and say where one is or how to get one."""
    if (folder / "config.json").is_file():
        return
    if seeds := sorted(path.parent.name for path in folder.glob("seed-*/config.json")):
        raise UserError(f"checkpoint: '{folder}' holds a run for each seed: {', '.join(seeds)}; name one of them.")
    if (folder / "run.yaml").is_file():
        raise UserError(f"checkpoint: the run in '{folder}' is not finished; the command that started it continues it.")
