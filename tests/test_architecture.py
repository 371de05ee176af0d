"""The shape of the library: which way imports go, what the surface is, and what an import costs."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import ppl

SOURCE = Path(__file__).parents[1] / "src"
LIBRARY = sorted((SOURCE / "ppl").rglob("*.py"))
MODELS = sorted((SOURCE / "models").rglob("*.py"))
EXAMPLES = sorted((SOURCE.parent / "examples").glob("*.py"))
# The one module that may touch JAX's private parts (design, section 2).
COMPATIBILITY = SOURCE / "ppl" / "transforms" / "jax_internals.py"
HEAVY = ("genjax", "matplotlib", "sklearn", "tqdm", "flax", "equinox", "blackjax", "arviz", "orbax")


def module_name(file: Path) -> str:
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(nodes: ast.AST) -> Iterator[str]:
    """Dotted names of what the code below a node imports: `a.b` and `a.b.c` for `from a.b import c`."""
    for node in ast.walk(nodes):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that this test can read them"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), filename=str(file))


def for_types_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def at_import(tree: ast.Module) -> Iterator[str]:
    """What importing the module itself imports: not what its functions import when they are called."""
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not for_types_only(
            node
        ):
            yield from imports(node)


@pytest.mark.parametrize("file", LIBRARY, ids=module_name)
def test_private_jax_is_used_in_one_module_only(file: Path):
    named = [name for name in imports(parsed(file)) if name.startswith("jax._src")]
    reached = [
        node for node in ast.walk(parsed(file)) if isinstance(node, ast.Attribute) and node.attr == "_src"
    ]
    assert file == COMPATIBILITY or not (named or reached), named


def test_modules_import_each_other_without_cycles():
    modules = {module_name(file): set(at_import(parsed(file))) for file in LIBRARY}
    graph = {name: {other for other in used if other in modules} - {name} for name, used in modules.items()}
    # `from ppl import x` inside the library would be a cycle by way of the surface.
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("import cycle: " + " -> ".join(error.args[1]))


ABOVE = r"models|ppl\.(objectives|infer|guides|train|testing|interop|expectation)"
# What each layer may never import, at any depth, not even inside a function's body.
FORBIDDEN = {
    # How a family is drawn and scored is a protocol; the families themselves stay unknown.
    "ppl.transforms": rf"({ABOVE})\b|ppl\.distributions\b(?!\.(family|density|sampling)\b)",
    "ppl.estimators": rf"({ABOVE})\b",
    "ppl.distributions": rf"({ABOVE})\b",
    "ppl.train": r"(models|ppl\.(guides|testing|interop))\b",
    "ppl": r"models\b",
}


@pytest.mark.parametrize("file", LIBRARY, ids=module_name)
def test_imports_go_one_way(file: Path):
    name = module_name(file)
    for layer, forbidden in FORBIDDEN.items():
        if name == layer or name.startswith(layer + "."):
            wrong = [used for used in imports(parsed(file)) if re.match(forbidden, used)]
            assert not wrong, f"{name} imports {wrong}"


PUBLIC = sorted(
    name for name, value in vars(ppl).items() if not name.startswith("_") and not inspect.ismodule(value)
)
FAMILIES = {
    name for name in PUBLIC if getattr(getattr(ppl, name), "__module__", "").startswith("ppl.distributions")
}


@pytest.mark.parametrize(
    "file", [file for file in LIBRARY if module_name(file).startswith("ppl.transforms")], ids=module_name
)
def test_no_transformation_knows_a_family(file: Path):
    tree = parsed(file)
    assert not [name for name in imports(tree) if name.startswith("numpyro.distributions")]
    words = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert not words & FAMILIES


def beyond_the_surface(tree: ast.Module) -> list[str]:
    """The private names of the library that a module imports or reaches."""
    imported = [
        name
        for name in imports(tree)
        if name.split(".")[0] == "ppl"
        and (any(part.startswith("_") for part in name.split(".")) or name.startswith("ppl.transforms"))
    ]
    reached = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and re.match(r"ppl\.(.*\.)?(_|transforms\b)", ast.unparse(node))
        and not node.attr.startswith("__")
    ]
    return imported + reached


def test_models_and_examples_are_written_on_the_public_surface():
    assert beyond_the_surface(ast.parse("from ppl.transforms.gradient import plan")), "the test can fail"
    assert EXAMPLES
    assert {file: found for file in (*MODELS, *EXAMPLES) if (found := beyond_the_surface(parsed(file)))} == {}


def test_the_surface_is_small():
    """Families of distributions are a vocabulary of their own, as are errors; the rest has to be learnt."""
    errors = {name for name in PUBLIC if getattr(getattr(ppl, name), "__module__", "") == "ppl.errors"}
    assert len(set(PUBLIC) - FAMILIES - errors) <= 40


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_docstring(name: str):
    assert inspect.getdoc(getattr(ppl, name)), f"ppl.{name} has no docstring"


def test_importing_ppl_imports_nothing_heavy():
    program = (
        "import sys; import numpyro.distributions; before = set(sys.modules); import ppl;"
        f"print([name for name in {HEAVY!r} if name in set(sys.modules) - before])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert answer.stdout.strip() == "[]"


def test_the_wheel_is_typed():
    assert (SOURCE / "ppl" / "py.typed").exists()
