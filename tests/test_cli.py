import ast
import inspect
import os
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml

import run
import run_finetune
from bert import cli
from bert.cli import Verb
from bert.config import PRESETS, ModelOptions
from bert.errors import UserError
from bert.tokenizer import TokenizerConfig
from bert.training.config import BUDGET_OPTIONS
from bert.training.stopping import Stopped
from bert.training.tracking import SyncConfig
from finetune.config import TaskConfig
from finetune.tasks import TASKS
from pretrain.config import PretrainConfig
from pretrain.masking import MASKING
from tests.pretrain.conftest import made_up_text, write_text

SMALL = {
    "tracking.uri": "none",
    "training.steps": 1,
    "training.batch_size": 8,
    "model.hidden_size": 16,
    "model.intermediate_size": 16,
    "tokenizer.vocab_size": 300,
    "data.max_length": 32,
}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def call(capsys):
    """Runs the command line in this process: (exit code, stdout, stderr). An exception is a traceback, so it fails."""

    def call(*arguments: str, program=run) -> tuple[int, str, str]:
        try:
            code = cli.main(
                f"{program.__name__}.py", "description", program.VERBS, next(iter(program.VERBS)), [*arguments]
            )
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def refused(call):
    """Runs what must be the person's mistake; gives the one line that says so."""

    def refused(*arguments: str) -> str:
        code, _, said = call(*arguments)
        assert code == 2
        assert said.count("\n") == 1 and "Traceback" not in said
        return said.rstrip("\n")

    return refused


def options(**changes) -> list[str]:
    """A run small enough for a test; dots are written as __."""
    named = SMALL | {name.replace("__", "."): value for name, value in changes.items()}
    return [f"--{name}={value}" for name, value in named.items()]


def corpus(name: str = "corpus.txt") -> str:
    return str(write_text(Path(name), made_up_text(40)))


# Verbs and exit codes


def test_help_lists_the_verbs_and_the_default(call):
    code, said, _ = call("--help")
    assert code == 0
    for name, verb in run.VERBS.items():
        assert f"  {name:<14}{verb.about or verb.config.__doc__.splitlines()[0]}" in said
    assert "Pretrain a BERT. (the default)" in said


def test_an_unknown_verb_is_refused_with_the_closest(refused):
    said = refused("fil-mask", "--text", "x")
    assert said.startswith("run.py: no verb 'fil-mask'; one of pretrain, audit, ablate, fill-mask, ")
    assert said.endswith(" (did you mean fill-mask?).")


def outcome(happen, *arguments: str) -> int:
    def act(config) -> None:
        if isinstance(happen, BaseException):
            raise happen

    return cli.main("p", "d", {"do": Verb(SyncConfig, act)}, "do", [*arguments])


@pytest.mark.parametrize(
    ("happen", "code", "said"),
    [
        (None, 0, ""),
        (UserError("a: 1.", "b: 2."), 2, "a: 1.\nb: 2.\n"),
        (Stopped("stopped at step 3"), 75, "stopped at step 3\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_the_exit_code_says_how_it_ended(happen, code, said, capsys):
    assert outcome(happen, "do") == outcome(happen) == code
    assert capsys.readouterr().err == 2 * said


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        outcome(ZeroDivisionError())


def test_run_py_itself_hands_the_code_to_the_shell(tmp_path):
    program = Path(run.__file__)
    command = [sys.executable, str(program), "pretrain", "--training.lr", "fast"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "run.py pretrain: training.lr: 'fast', but it must be of type float.\n"


def test_in_a_log_file_an_error_stands_after_what_was_said_before_it(tmp_path):
    (tmp_path / "one.txt").write_text("one document\n")
    command = [sys.executable, str(Path(run.__file__)), "pretrain", "--data.train", "one.txt"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with (tmp_path / "log").open("w") as log:
        subprocess.run(command, stdout=log, stderr=log, cwd=tmp_path, env=environment, check=False)
    said = (tmp_path / "log").read_text().splitlines()
    assert said[0].startswith("data.train: one.txt: 1 document, 1 sentence, ")
    assert said[-1].startswith("data.train: 1 document in 'one.txt', and sentence.objective=nsp needs at least 2")


# Options


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--training.lrr", "1"], "no option --training.lrr (did you mean --training.lr?)."),
        (["--foo", "1"], "no option --foo."),
        (
            ["--data.train", "a.txt", "b.txt", "c.txt"],
            "no option before 'b.txt c.txt'; put a value with spaces, or a pattern such as '*.txt', in quotes.",
        ),
        (["--training.lr", "fast"], "training.lr: 'fast', but it must be of type float."),
        (["--training.steps", "2.5"], "training.steps: '2.5', but it must be of type int."),
        (["--training.deterministic", "maybe"], "training.deterministic: 'maybe', but it must be of type bool."),
        (["--training.lr"], "argument --training.lr: expected one argument"),
        (
            ["--masking.strategy", "whole_words"],
            "masking.strategy: no 'whole_words'; one of {MASKING} (did you mean whole_word?).",
        ),
        (["--model.preset", "bass"], "model.preset: no 'bass'; one of {PRESETS} (did you mean base?)."),
    ],
)
def test_a_wrong_option_is_one_line_with_what_would_be_right(arguments, said, refused):
    expected = said.format(MASKING=", ".join(MASKING), PRESETS=", ".join(PRESETS))
    assert refused("pretrain", *arguments) == refused(*arguments) == f"run.py pretrain: {expected}"


@pytest.mark.parametrize("verb", [verb for verb in run.VERBS if verb != "pretrain"])
def test_what_is_one_process_is_not_started_by_torchrun(verb, refused, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "1")
    assert refused(verb) == f"run.py {verb}: it is one process; start it without torchrun."


def test_an_option_that_is_given_twice_is_said(call):
    again = ["--data.train", "a.txt", "--training.lr=1", "--data.train=b.txt", "--training.lr", "2"]
    assert call("pretrain", *again)[2].splitlines() == [
        "--data.train: given more than once; the last counts",
        "--training.lr: given more than once; the last counts",
        "data.train: no such file: 'b.txt'.",
    ]
    added = ["--data.train=[a.txt]", "--data.train+=b.txt", "--data.train+=c.txt"]
    assert call("pretrain", *added)[2] == "data.train: no such file: 'a.txt'.\n"


def test_an_option_far_from_all_others_of_its_group_gets_no_suggestion(refused):
    assert refused("--training.zzqqxx", "1") == "run.py pretrain: no option --training.zzqqxx."


def test_several_wrong_values_are_reported_together(call):
    code, _, said = call(*options(training__lr=-1, masking__rate=2, training__epochs=1))
    assert code == 2
    assert said.splitlines() == [
        "masking.rate: 2.0, but it must be above 0 and at most 1.",
        "training: give one budget: steps, epochs, tokens or minutes; training.steps=1, training.epochs=1.0 given.",
        "training.lr: -1.0, but it must be above 0.",
    ]


def test_sizes_that_make_no_model_are_refused(refused):
    said = refused(*options(data__train=corpus(), model__num_attention_heads=3))
    assert said == "model.hidden_size: 16 is not a multiple of model.num_attention_heads=3."


def test_a_gpu_that_is_not_there_is_refused(refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = refused(*options(data__train=corpus(), training__device="cuda"))
    assert said.startswith("training.device: 'cuda', but PyTorch sees no GPU")


# --config, --print_config and --help


def config_file(text: str) -> str:
    Path("given.yaml").write_text(text)
    return "given.yaml"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("training:\n  lrr: 1\n", "no option training.lrr (did you mean training.lr?)."),
        ("training:\n  lr: fast\n", "training.lr: 'fast', but it must be of type float."),
        ("masking:\n  strategy: tokens\n", "masking.strategy: no 'tokens'; one of "),
        ("data:\n  train: 2019\n", "data.train: 2019, but it must be of type str, which is written as '\"2019\"'."),
        (
            "data:\n  train: [a.txt, 3]\n",
            "data.train: ['a.txt', 3], but a list must have names alone; put a number in quotes, as in ",
        ),
        ("data:\n  text: 1\n", "data.text: 1, but it must be of type str, which is written as '\"1\"'."),
        ("- a\n", "Unexpected config: - a"),
    ],
)
def test_a_wrong_config_file_is_one_line(text, said, refused):
    assert refused("--config", config_file(text)).startswith(f"run.py pretrain: {said}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("training:\n  lr: [1\n", ":3: expected ',' or ']'"),
        ("training:\n  lr: 1\noutput: a\ntraining:\n  steps: 2\n", ":4: training is given twice."),
        ("training:\n  lr: 1\n  steps: 2\n  lr: 3\n", ":4: training.lr is given twice."),
    ],
)
def test_a_config_file_that_is_unclear_is_named_with_the_line(text, said, refused):
    file = config_file(text)
    assert refused("--config", file).startswith(f"{file}{said}")
    assert refused(f"--config={file}").startswith(f"{file}{said}")


def test_a_wrong_group_in_a_config_file_is_named_with_its_line_and_the_closest_name(refused):
    file = config_file("data:\n  copies: 1\ntrainin:\n  lr: 1\n")
    assert refused("--config", file) == f"{file}:3: no option trainin (did you mean training?)"


def test_a_config_file_may_include_another_and_merge(call):
    base = config_file("sentence: {objective: none}\n")
    Path("base.yaml").write_text(Path(base).read_text())
    file = config_file("config: base.yaml\n<<: {output: merged}\n")
    code, said, _ = call("--config", file, "--print_config")
    assert code == 0 and "  objective: none" in said and "output: merged" in said


def test_a_config_file_of_another_verb_is_called_so(refused):
    file = config_file("axes: {}\n")
    assert refused("--config", file) == f"{file}:1: no option axes; is the file for another verb?"


def test_a_number_in_a_group_s_place_is_one_line(refused):
    assert "training" in refused("--config", config_file("training: 5\n"))


@pytest.mark.parametrize("path", ["missing.yaml", "."])
def test_a_config_that_is_no_file_is_one_line(path, refused):
    assert re.search(r"config: (File does not exist|Path is not a file): ", refused("--config", path))


def test_the_command_line_overrides_the_config_and_both_the_defaults(call):
    file = config_file("training:\n  lr: 0.25\n  warmup: 0.5\n")
    typed = [["--config", file], ["--training.warmup", "0.75"]]
    for one, other in (typed, typed[::-1]):
        assert call(*one, *other, "--print_config") == call(*typed[0], *typed[1], "--print_config")
    assert call(*typed[1], f"--config={file}", "--print_config") == call(*typed[0], *typed[1], "--print_config")
    assert call("--print_config", *typed[1], *typed[0]) == call(*typed[0], *typed[1], "--print_config")
    _, said, _ = call("--config", file, "--training.warmup", "0.75", "--print_config")
    default = f"  log_every: {PretrainConfig().training.log_every}"
    assert {"  lr: 0.25", "  warmup: 0.75", default} <= set(said.splitlines())


@pytest.mark.parametrize(
    ("typed", "aside"), [("steps=7", "epochs"), ("batch_tokens=4096", "batch_size"), ("batch_size=8", "batch_tokens")]
)
def test_one_of_several_measures_typed_puts_a_file_s_other_aside(typed, aside, call):
    file = config_file(f"training:\n  {aside}: 512\n")
    _, said, _ = call("--config", file, f"--training.{typed}", "--print_config")
    assert {f"  {typed.replace('=', ': ')}", f"  {aside}: null"} <= set(said.splitlines())


def test_what_belongs_to_a_measure_that_is_put_aside_goes_with_it(call):
    file = config_file("training:\n  batch_tokens: 4096\n  micro_batch_tokens: 512\n")
    _, said, _ = call("--config", file, "--training.batch_size=8", "--training.micro_batch_size=4", "--print_config")
    assert {"  batch_size: 8", "  micro_batch_size: 4", "  micro_batch_tokens: null"} <= set(said.splitlines())


def test_a_tokenizer_that_is_given_replaces_the_sizes_of_one_that_a_file_would_train(call, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("tokenizer: {vocab_size: 16000, lowercase: true}\n")
    _, said, _ = call("--config", str(file), "--tokenizer.path", "t.json", "--print_config")
    assert yaml.safe_load(said)["tokenizer"] | {"path": None} == vars(TokenizerConfig())
    code, _, said = call("--config", str(file), "--tokenizer.path", "t.json", "--tokenizer.vocab_size", "100")
    assert code == 2 and "tokenizer.vocab_size: 100 was given, but it belongs to a tokenizer trained here" in said
    file.write_text("tokenizer: {path: t.json}\n")
    _, said, _ = call("--config", str(file), "--tokenizer.vocab_size", "100", "--print_config")
    assert yaml.safe_load(said)["tokenizer"] == vars(TokenizerConfig(vocab_size=100))


def test_a_model_to_start_from_replaces_the_sizes_and_tokenizer_of_a_file(call, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("tokenizer: {vocab_size: 16000}\nmodel: {preset: mini, hidden_dropout_prob: 0.2}\n")
    _, said, _ = call("--config", str(file), "--init", "there", "--print_config")
    printed = yaml.safe_load(said)
    assert (printed["init"], printed["tokenizer"]) == ("there", vars(TokenizerConfig()))
    assert printed["model"] == vars(ModelOptions(hidden_dropout_prob=0.2))  # which is no size
    code, out, said = call("--config", str(file), "--init", "there", "--model.preset", "base")
    assert (code, out) == (2, f"init: given, which sets aside tokenizer.vocab_size=16000 of '{file}'\n")
    assert said == (
        "model.preset: 'base' was given, but it belongs to random weights, and init was given, which brings its own.\n"
    )
    _, said, _ = call("--config", str(file), "--init", "null", "--print_config")
    assert yaml.safe_load(said)["model"] == vars(ModelOptions(preset="mini", hidden_dropout_prob=0.2))


@pytest.mark.parametrize("typed", [["--model", "{hidden_size: 64}"], ["--tokenizer={vocab_size: 300}"]])
def test_a_group_that_is_typed_as_a_whole_is_not_set_aside(typed, refused):
    said = refused("--init", "there", *typed)
    assert "was given, but it belongs to random weights, and init was given, which brings its own" in said


def test_an_option_of_a_file_does_not_set_aside_a_model_to_start_from(refused, tmp_path):
    (tmp_path / "run.yaml").write_text("init: there\n")
    said = refused("--config", "run.yaml", "--model.preset", "mini")
    assert said.startswith("model.preset: 'mini' was given, but it belongs to random weights, and init was given")


def test_what_is_set_aside_is_said_in_one_line(capsys, tmp_path):
    (tmp_path / "a.yaml").write_text("training: {epochs: 10, lr: 0.1}\ntracking.uri: none\n")
    (tmp_path / "b.yaml").write_text("training.epochs: 20\n")
    files = ["--config", "a.yaml", "--config", "b.yaml"]
    verb = Verb(PretrainConfig, lambda config: print(config.training.epochs), alternatives=(BUDGET_OPTIONS,))

    def said(*arguments: str) -> str:
        assert cli.main("p", "d", {"do": verb}, "do", [*arguments]) == 0
        return capsys.readouterr().out

    aside = "training.steps: given, which sets aside training.epochs=20 of 'a.yaml', 'b.yaml'\nNone\n"
    assert said(*files, "--training.steps=7") == aside
    assert said("--training.steps", "7", "--training.lr", "1") == "None\n"  # no file sets another budget
    assert said(*files, "--training.steps", "null") == said(*files) == "20.0\n"
    inline = "{training: {epochs: 30}}"  # no file, but read as one
    assert said("--config", inline, "--training.steps", "7") == "None\n"


@pytest.mark.parametrize("verb", ["pretrain", "sync"])
def test_what_print_config_prints_is_a_config_of_the_same_run(verb, call):
    extra = {"pretrain": ["--training.adam_epsilon=1e-12", "--data.valid=a: b"], "sync": ["--output=2024"]}[verb]
    code, printed, _ = call(verb, *extra, "--print_config")
    assert code == 0
    code, again, _ = call(verb, "--config", config_file(printed), "--print_config")
    assert (code, again) == (0, printed)


def test_run_yaml_starts_the_same_run_again(call):
    assert call(*options(data__train=corpus(), output="run"))[0] == 0
    code, said, _ = call("--config", "run/run.yaml")
    assert code == 0
    assert said.splitlines()[-1] == "'run' is finished: nothing to do. Its results are in run/metrics.json."


@pytest.mark.parametrize(
    "name", ["masking.strategy", "sentence.negatives", "sentence.remainder", "training.warmup", "audit.allow"]
)
def test_an_option_that_a_file_leaves_empty_is_named(name, refused):
    group, option = name.split(".")
    file = config_file(f"{group}:\n  {option}:\n")
    assert refused("--config", file) == f"run.py pretrain: {name}: null, but it needs a value."


def test_no_folder_is_no_output(refused):
    assert refused("--output", "") == "run.py pretrain: output: '' is no folder."


def test_an_abbreviation_is_an_unknown_option(refused):
    said = "run.py pretrain: no option --training.step (did you mean --training.steps?)."
    assert refused("--training.steps", "4", "--training.step", "5") == said


def test_a_value_that_is_called_otherwise_elsewhere_is_known(refused):
    said = "run.py pretrain: training.device: no 'gpu'; one of auto, cpu, cuda (did you mean cuda?)."
    assert refused("--training.device", "gpu") == said


def test_a_value_given_without_its_name_is_given_once(refused):
    assert refused("fill-mask", "a", "--text=b") == "text: given twice, once as 'a' and once by name."
    said = "text: one is expected, not 3 ('where', 'it', 'looks'); quote it."
    assert refused("attention", "where", "--layer", "1", "it", "looks") == said


def docstrings_of(config: type, prefix: str = "") -> dict[str, str]:
    """The docstring under each option of a dataclass and of those in it, by the option's full name."""
    body = ast.parse(inspect.getsource(config).strip()).body[0].body
    under = {
        line.target.id: inspect.cleandoc(after.value.value)
        for line, after in pairwise(body)
        if isinstance(line, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    }
    found = {}
    for field in fields(config):
        if is_dataclass(field.type):
            found |= docstrings_of(field.type, f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = under.get(field.name, "")
    return found


VERBS = [(program, name) for program in (run, run_finetune) for name in program.VERBS]


@pytest.mark.parametrize(("program", "verb"), VERBS, ids=lambda value: getattr(value, "__name__", value))
def test_help_explains_every_option_that_a_verb_has_a_use_for(program, verb, call):
    code, said, _ = call(verb, "--help", program=program)
    assert code == 0
    unused = program.VERBS[verb].unused
    explained = {name: text for name, text in docstrings_of(program.VERBS[verb].config).items() if name not in unused}
    shown = without_breaks(said)
    assert [name for name in unused if f"--{name}" in shown] == []
    assert [name for name, text in explained.items() if not text or without_breaks(text) not in shown] == []
    assert [name for name in explained if f"--{name} " not in shown] == []


def test_help_says_which_tasks_an_option_belongs_to():
    explained = docstrings_of(TaskConfig)
    assert all({*task.head_options} <= {*task.options} <= {*explained} for task in TASKS.values())
    for option in (option for option in explained if option != "name"):
        owners = {name for name, task in TASKS.items() if option in task.options}
        assert owners and owners == {*re.findall(r"\w+", explained[option].partition(":")[0])} & {*TASKS}


UNUSED = [(verb, name) for verb, entry in run_finetune.VERBS.items() for name in entry.unused]


@pytest.mark.parametrize(("verb", "name"), UNUSED)
def test_an_option_that_a_verb_has_no_use_for_is_refused_by_name(verb, name, call):
    value = {"data.train": "x", "data.test": "{x: x}", "training.compile": "true"}.get(name, "8")
    code, _, said = call(verb, f"--{name}", value, "--data.eval", "x", program=run_finetune)
    assert code == 2 and f"{name}: " in said and " was given, but it belongs to " in said


def without_breaks(text: str) -> str:
    """On one line; argparse breaks lines after hyphens too."""
    return " ".join(text.split()).replace("- ", "-")


# The corpus


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.txt", None, "data.train: no such file: 'missing.txt'."),
        ("empty.txt", b"", "data.train: 'empty.txt' is empty."),
        ("blank.txt", b"\n \n\n", "data.train: no document in 'blank.txt': no sentence in its 3 lines."),
        ("bytes.txt", b"good\nbad \xff line\n", "bytes.txt:2: byte 0xff at offset 9 is not UTF-8; "),
        ("one.txt", b"One sentence.\n", "data.train: 1 document in 'one.txt', and sentence.objective=nsp needs at "),
        (
            "single.txt",
            b"One.\nTwo.\nThree.\n",
            "data.train: 1 document in 'single.txt', and sentence.objective=nsp",
        ),
        (
            "alone.txt",
            b"One.\n\nTwo.\n\nThree.\n\nFour.\n\n" * 10,
            "data.train: no example in it: sentence.input=segment_pair",
        ),
    ],
)
@pytest.mark.parametrize("reader", ["mmap", "linecache"])
def test_a_corpus_that_cannot_be_learned_from_is_one_line(name, content, said, reader, refused):
    if content is not None:
        Path(name).write_bytes(content)
    assert refused(*options(data__train=name, data__reader=reader)).startswith(said)


def test_a_misspelt_corpus_gets_the_closest_file(refused):
    corpus("corpus.txt")
    said = refused(*options(data__train="corpsu.txt"))
    assert said == "data.train: no such file: 'corpsu.txt' (did you mean corpus.txt?)."


def test_a_folder_is_no_corpus(refused):
    Path("texts").mkdir()
    assert refused(*options(data__train="texts")) == (
        "data.train: 'texts' is a folder; name its files, as in --data.train 'texts/*' (with the quotes)."
    )


@pytest.mark.parametrize("changes", [{"output": "file/run"}, {"output": "/proc/none/run"}, {"data__cache": "file"}])
def test_a_folder_that_cannot_be_made_is_one_line(changes, refused):
    Path("file").touch()
    refused(*options(data__train=corpus(), **changes))


def test_an_output_that_is_a_file_is_one_line(refused):
    Path("file").touch()
    said = refused(*options(data__train=corpus(), output="file"))
    assert said == "output: 'file' is a file; a run needs a folder."


def test_another_configuration_on_the_same_output_is_refused_by_name(call, refused):
    file = corpus()
    assert call(*options(data__train=file, output="run", training__lr=0.5))[0] == 0
    said = refused(*options(data__train=file, output="run", training__lr=1))
    assert said == (
        "output: 'run' was started with training.lr=0.5, and is now asked for with 1.0. Use another folder; a "
        "finished run cannot be changed."
    )


# fill-mask


def test_fill_mask_shows_candidates_for_each_mask_of_a_run_just_trained(call):
    assert call(*options(data__train=corpus(), output="run"))[0] == 0
    for folder in ("run", "run/best", "run/checkpoints/step-00000001"):
        code, said, _ = call("fill-mask", "--checkpoint", folder, "--text", "a [MASK] b [MASK]", "--top", "3")
        assert code == 0
        lines = said.splitlines()
        assert len(lines) == 8 and lines[0] == "[MASK] 1" and lines[4] == "[MASK] 2"
    code, _, said = call("fill-mask", "--checkpoint", "run", "--text", "no mask")
    assert (code, said) == (2, "text: no [MASK] in 'no mask'.\n")


def test_fill_mask_needs_a_folder_with_a_model(refused):
    Path("empty").mkdir()
    said = refused("fill-mask", "--checkpoint", "./nowhere", "--text", "[MASK]")
    assert said == "checkpoint: no such folder: './nowhere'."
    said = refused("fill-mask", "--checkpoint", "empty", "--text", "[MASK]")
    assert said == "'empty' is not a model folder: it has no config.json."


def test_fill_mask_without_a_text_says_what_is_missing(refused):
    assert refused("fill-mask").endswith("the following arguments are required: text")


def test_the_text_may_stand_by_itself(refused):
    said = refused("fill-mask", "--checkpoint", "./nowhere", "text with a [MASK]")
    assert said == "checkpoint: no such folder: './nowhere'."


@pytest.mark.parametrize(
    "text",
    ["!!python/object/apply:os.system ['touch canary']", "model: !!python/name:os.system", "&a [*a, !!binary x]"],
)
def test_a_crafted_yaml_runs_no_code(text, refused):
    Path("crafted.yaml").write_text(f"output: {text}\n" if text.startswith("!!") else text)
    refused("pretrain", "--config", "crafted.yaml")
    assert not Path("canary").exists()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("training.learning_rate", "training.lr"), ("max_steps", "training.steps"), ("output_dir", "output")],
)
def test_an_option_by_its_name_in_transformers_is_told_ours(theirs, ours, refused):
    assert refused("pretrain", f"--{theirs}", "1").endswith(f"(did you mean --{ours}?).")


GRID = """
axes: {masking.strategy: [token, span]}
baseline: {masking.strategy: token}
effects: [masking.strategy]
seeds: [0]
tokens: 100
base: {data: {train: a.txt, max_length: 64}, training: {lr: 2.0e-3}}
"""


@pytest.mark.parametrize("typed", [("--base.training.lr", "1e-4"), ("--base.training.lr=1e-4",)])
def test_a_single_option_of_a_tree_leaves_the_others_as_they_are(typed, call, tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID)
    code, said, _ = call("ablate", "--config", "grid.yaml", *typed, "--base.masking.rate", "0.3", "--print_config")
    assert code == 0
    base = yaml.safe_load(said)["base"]
    expected = {"data": {"train": "a.txt", "max_length": 64}, "training": {"lr": 0.0001}, "masking": {"rate": 0.3}}
    assert base == expected


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            ("--axes.masking.strategy", "[token]"),
            "run.py ablate: no option --axes.masking.strategy; give --axes as a whole: --axes '{name: v",
        ),
        (
            ("--finetune.ner.options.training.lr", "1"),
            "run.py ablate: no option --finetune.ner.options.training.lr; give --finetune as a whole",
        ),
        (("--base.data.train.x", "1"), "data.train.x: train is 'a.txt', where a group of options is needed."),
        (("--base.data.train",), "run.py ablate: --base.data.train: a value is needed."),
        (("--base.data.train", "[1"), "run.py ablate: --base.data.train: '[1' is not valid YAML: "),
    ],
)
def test_a_single_entry_that_cannot_be_typed_says_so(typed, said, call, tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID)
    code, _, error = call("ablate", "--config", "grid.yaml", *typed)
    assert code == 2 and error.startswith(said)


def test_help_says_what_the_verb_does(call):
    assert "See what the sampler really does." in call("audit", "--help")[1]
    assert "train nothing" in " ".join(call("check", "--help", program=run_finetune)[1].split())
