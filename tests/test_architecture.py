"""What may import what, and other rules of the house, read from the source itself: nothing is imported here."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("bert", "pretrain", "finetune")
ROOFS = ("run", "run_finetune")
SCRIPTS = ("bert.serving.fill_mask", "finetune.serve_task")  # MLflow runs them, where it opens a model

# Each layer may import itself and those before it.
LAYERS = (
    (
        "bert.config",
        "bert.registry",
        "bert.errors",
        "bert.counting",
        "bert.targets",
        "bert.packed",
        "bert.compiled",
        "bert.dropout",
        "bert.gelu",
        "bert.norm",
        "bert.products",
        "bert.cross_entropy",
    ),
    ("bert.embeddings", "bert.attention", "bert.feed_forward"),
    ("bert.encoder",),
    ("bert.model",),
    ("bert.heads",),
)
# What each package may never import.
FORBIDDEN = {
    "bert": ("pretrain", "finetune"),
    "bert.training": ("bert.model", "bert.heads", "bert.encoder", "bert.embeddings"),
    "pretrain": ("finetune",),
    "finetune": ("pretrain",),
}
# The design axes, and in which package the command line looks for each.
TABLES = {
    "bert": ("PRESETS", "BACKENDS", "SCHEDULES"),
    "pretrain": ("MASKING", "INPUTS", "SENTENCE", "NEGATIVES", "OBJECTIVES", "READERS", "FORMATS", "TRUNCATION"),
    "finetune": ("TASKS", "HEADS", "FORMATS", "SCHEMES", "TAGGINGS", "UNITS"),
}


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(file): file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))}
SOURCES |= {roof: ROOT / f"{roof}.py" for roof in ROOFS if (ROOT / f"{roof}.py").is_file()}
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in SOURCES.items()}


def imports(tree: ast.AST) -> set[str]:
    """Every module a file imports, wherever in it; a name in a module (from a import b) counts as a module (a.b)."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def test_the_reader_of_imports_sees_every_form_of_them():
    text = "import a.b\nfrom c import d as e\ndef f():\n    from g.h import i\n    import j as k\n"
    assert imports(ast.parse(text)) == {"a.b", "c.d", "g.h.i", "j"}
    assert within("bert.model", ("bert.model",)) and within("bert.model.BertModel", ("bert.model",))
    assert not within("bert.models", ("bert.model",))


def test_the_core_imports_one_way():
    breaches = []
    for module, tree in TREES.items():
        layer = next((number for number, names in enumerate(LAYERS) if within(module, names)), None)
        if layer is None:
            continue
        below = tuple(name for names in LAYERS[: layer + 1] for name in names)
        ours = {name for name in imports(tree) if within(name, (*PACKAGES, *ROOFS))}
        breaches += [f"{module} imports {name}" for name in sorted(ours) if not within(name, below)]
    assert breaches == []


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_package_never_imports_what_stands_above_or_beside_it(package):
    breaches = [
        f"{module} imports {name}"
        for module, tree in TREES.items()
        if within(module, (package,))
        for name in sorted(imports(tree))
        if within(name, FORBIDDEN[package])
    ]
    assert breaches == []


def test_nobody_imports_the_roof():
    assert [module for module, tree in TREES.items() for name in imports(tree) if within(name, ROOFS)] == []


def test_what_only_tests_need_is_never_imported():
    tools = ("transformers", "seqeval", "hypothesis", "pytest")
    assert [module for module, tree in TREES.items() for name in imports(tree) if within(name, tools)] == []


def test_mlflow_is_imported_only_where_it_is_used():
    trees = [tree for module, tree in TREES.items() if module not in SCRIPTS]
    heads = [node for tree in trees for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [name for head in heads for name in imports(head) if within(name, ("mlflow",))] == []


def test_nobody_imports_what_mlflow_runs():
    assert set(SCRIPTS) <= TREES.keys()
    assert [module for module, tree in TREES.items() for name in imports(tree) if within(name, SCRIPTS)] == []


def test_every_file_is_named_for_what_is_in_it():
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    folders = [ROOT / name for name in (*PACKAGES, "tests", "benchmarks")]
    assert [file for folder in folders for file in folder.rglob("*.py") if file.stem in vague] == []


@pytest.mark.parametrize(("package", "table"), [(package, name) for package in TABLES for name in TABLES[package]])
def test_a_design_axis_ends_in_one_plain_dict(package, table):
    values = [
        node.value
        for module, tree in TREES.items()
        if within(module, (package,))
        for node in tree.body
        if isinstance(node, ast.Assign) and [getattr(target, "id", None) for target in node.targets] == [table]
    ]
    assert [type(value) for value in values] == [ast.Dict], "exactly one, written out where it is defined"
    names = [key.value for key in values[0].keys]
    assert names and all(isinstance(name, str) for name in names)


def test_only_abstract_classes_are_inherited_from():
    classes = [node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    bases = [base.value if isinstance(base, ast.Subscript) else base for node in classes for base in node.bases]
    parents = {base.id for base in bases if isinstance(base, ast.Name)}
    of_ours = [node for node in classes if node.name in parents]
    assert len(of_ours) > 5
    assert [node.name for node in of_ours if "abstractmethod" not in ast.dump(node)] == []


@pytest.mark.parametrize("module", TREES)
def test_everything_public_has_a_docstring(module):
    tree = TREES[module]
    public = [node for node in tree.body if is_public(node)]
    members = [
        (f"{node.name}.{member.name}", member, inherited(node, member.name))
        for node in public
        if isinstance(node, ast.ClassDef)
        for member in node.body
        if is_public(member)
    ]
    named = [(node.name, node, False) for node in public] + members
    assert [name for name, node, excused in named if not ast.get_docstring(node) and not excused] == []


def is_public(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")


def inherited(child: ast.ClassDef, method: str) -> bool:
    """Whether an abstract class of ours, or one that it inherits from, documents this method for its children."""
    names = {base.id for base in child.bases if isinstance(base, ast.Name)}
    classes = (node for tree in TREES.values() for node in tree.body if isinstance(node, ast.ClassDef))
    return any(
        any(getattr(member, "name", None) == method and ast.get_docstring(member) for member in parent.body)
        or inherited(parent, method)
        for parent in classes
        if parent.name in names
    )
