"""A task's model: begun from a pretrained folder or random weights, or read back from a fine-tuned one."""

from bert import hub
from bert.errors import UserError
from bert.training.device import seed_torch
from finetune.config import FinetuneConfig, TaskConfig
from finetune.tasks import TASKS
from finetune.tasks.task import Task


def build(config: FinetuneConfig, labels: list[str]) -> tuple[Task, str]:
    """The model, from a folder or from random weights, and what was taken from where.

    Raises:
        UserError: the folder is none, holds no BERT, or one that reads less than data.max_length.
    """
    argument = "like" if config.init == "none" else "init"
    folder = hub.open_folder(getattr(config, argument), argument)
    if config.data.max_length > folder.config.max_position_embeddings:
        raise UserError(
            f"data.max_length: {config.data.max_length}, but the model of '{folder.path}' reads "
            f"{folder.config.max_position_embeddings} tokens at most."
        )
    if config.task.name == "ner" and config.task.unit == "character" and not folder.tokenizer.is_wordpiece:
        raise UserError(f"task.unit: 'character' needs a WordPiece vocabulary, and that of '{folder.path}' is none.")
    if config.data.text_pair is not None and folder.config.type_vocab_size < 2:
        raise UserError(f"data.text_pair: a pair has 2 segments, but the model of '{folder.path}' knows 1.")
    seed_torch(config.training.seed)
    task = TASKS[config.task.name](
        folder.config,
        folder.tokenizer,
        labels,
        config.task,
        config.data.max_length,
        config.training.attention,
        config.training.gradient_checkpointing,
    )
    if config.init == "none":
        return task, f"random weights, with the sizes and the tokenizer of {folder.path}"
    return task, f"{folder.path}: {task.start_from(folder.path)}"


def load(folder: str, attention: str = "sdpa", gradient_checkpointing: bool = False) -> Task:
    """A fine-tuned model: a folder, or an id on the Hugging Face hub.

    Raises:
        UserError: the folder holds none of this project's.
    """
    opened = hub.open_folder(folder, "checkpoint")
    described = opened.described
    if "bert_research" not in described:
        raise UserError(f"'{folder}' holds a model, but none that was fine-tuned by this project.")
    task_config = TaskConfig(**described["bert_research"]["task"])
    names = described["id2label"]
    labels = [names[str(number)] for number in range(len(names))]
    max_length = described["bert_research"]["max_length"]
    given = (opened.config, opened.tokenizer, labels, task_config, max_length, attention, gradient_checkpointing)
    task = TASKS[task_config.name](*given)
    task.restore(opened.path)
    return task.eval()
