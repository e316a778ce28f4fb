"""Public functions that take or return arrays name their shapes, in the docstring or behind a parameter."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path
    for folder in ("packages/phq_data/src", "packages/portraitgan/src", "flows/src", "annotator_app/src")
    for path in (ROOT / folder).rglob("*.py")
)
ARRAYS = {"ArrayLike", "FloatArray", "Float32Array", "ImageArray", "NDArray", "Tensor", "ndarray"}
SHAPE = re.compile(r"\[(?:\.\.\.|[^\[\]`\"']*)\](?!\()")
"""`[N, 3]`, `[17, 3]`, `[...]`, `[]`; not a link."""


def holds_array(annotation: ast.expr | None) -> bool:
    """Is it an array, or a tuple or list of some? Tensors by name (`dict[str, Tensor]`) do not count."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in (
        "dict", "Mapping", "Annotated", "Literal",
    ):  # fmt: skip
        return False
    if isinstance(annotation, ast.Name | ast.Attribute):
        return ast.unparse(annotation).rpartition(".")[2] in ARRAYS
    return annotation is not None and any(
        holds_array(part) for part in ast.iter_child_nodes(annotation) if isinstance(part, ast.expr)
    )


def public_functions(body: list[ast.stmt]) -> Iterator[ast.FunctionDef]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body)
        elif isinstance(node, ast.FunctionDef) and (
            not node.name.startswith("_") or node.name in ("__init__", "__call__")
        ):
            yield node


def without_shapes(source: str) -> list[str]:
    """line: name of the public functions of a module whose arrays have no shape that a reader can see."""
    lines = source.splitlines()
    found = []
    for function in public_functions(ast.parse(source).body):
        given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        if not any(holds_array(one) for one in [*(arg.annotation for arg in given), function.returns]):
            continue
        signature = lines[function.lineno - 1 : function.body[0].lineno]
        comments = " ".join(line.partition("  # ")[2] for line in signature)
        if not SHAPE.search(f"{ast.get_docstring(function) or ''} {comments}"):
            found.append(f"{function.lineno}: {function.name}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_functions_name_the_shapes_of_their_arrays(path: Path) -> None:
    assert without_shapes(path.read_text(encoding="utf-8")) == []


def test_a_function_without_shapes_is_named() -> None:
    source = '''
def whole(points: FloatArray) -> float:
    """The mean of points [N, 3]."""
def behind(
    points: FloatArray,  # [N, 3] metres
) -> float: ...
def bare(points: tuple[NDArray[np.uint8], int]) -> float:
    """See [this](page.md)."""
class Kept:
    def lost(self) -> "Tensor | None": ...
    def _own(self) -> Tensor: ...
def state(tensors: dict[str, Tensor]) -> None: ...
'''
    assert without_shapes(source) == ["7: bare", "10: lost"]
