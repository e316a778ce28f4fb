"""The house as its imports draw it: rooms stand on floors, nothing imports upwards or in a circle.

All imports count: those inside functions and those for type checkers alone, too. A name imported from a
package counts as its module where there is one (`from phq_data.weights import store`).
"""

import ast
import builtins
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {
    "phq_data": ROOT / "packages/phq_data/src",
    "portraitgan": ROOT / "packages/portraitgan/src",
    "phq_flows": ROOT / "flows/src",
    "annotator_app": ROOT / "annotator_app/src",
    "benchmarks": ROOT,
}

FLOORS = {
    # From the ground up. A room imports rooms of lower floors and itself, never one of its own floor.
    "phq_data": (
        {"errors", "arrays", "text", "process_pool"},
        {"foreign", "object_store", "parquet_footer"},
        {"command_line", "files", "parquet", "restricted_pickle", "typed_json"},
        {"compatibility", "parquet_limits", "tensor_pickle"},
        {"camera", "config", "schema", "views"},
        {"old_schema"},
        {"records", "rig"},
        {"workspace"},
        {"images", "rendering", "weights"},
        {"bodies"},
        {"models"},
        {"synthesis"},
        {"sources"},
        {"stages"},
        {"pipeline"},
        {"report", "evaluation", "interchange"},
        {"review"},
        {"release"},
        {"cli"},
    ),
    "portraitgan": (
        {"precision", "reference_mode"},
        {"config"},
        {"deformation", "presets", "rendering"},
        {"networks"},
        {"data", "checkpoints", "images"},
        {"training"},
        {"inference"},
        {"metrics"},
        {"commands"},
        {"__main__"},
    ),
}

LIGHT_CORE = {
    "",  # the package itself: `__version__`
    "errors", "arrays", "text", "process_pool", "command_line", "compatibility", "camera", "files", "schema",
    "typed_json", "old_schema", "parquet", "records", "rig", "workspace", "restricted_pickle", "foreign",
    "parquet_footer", "parquet_limits", "object_store", "tensor_pickle",
    "rendering",  # draws a mesh with numpy alone; both packages need it, and it is written once
}  # fmt: skip
"""What `portraitgan` may import of `phq_data`, beside `release.reader`."""

PACKAGES = {
    # package: the packages of this repository that it may import
    "phq_data": set(),
    "portraitgan": {"phq_data"},
    "phq_flows": {"phq_data"},
    "annotator_app": {"phq_data"},
    "benchmarks": {"phq_data", "portraitgan", "phq_flows", "annotator_app"},
}

ONE_PLACE = {"pyarrow.parquet": "phq_data.parquet"}  # page checksums are written and compared there
"""A package of others: the one module that imports it."""

OUTSIDE = {
    # room: packages of others that it may not import
    "phq_data.stages": {"prefect", "torch"},
    "phq_data.pipeline": {"prefect"},
    "phq_data.weights": {"prefect", "onnxruntime"},
}


class Import(NamedTuple):
    """One import: who, whom, where."""

    importer: str  # dotted name of a module
    imported: str  # dotted name of a module of this repository, or of a package of others
    place: str  # file:line


def modules() -> dict[str, Path]:
    """Every module of the repository's packages by its dotted name."""
    found = {}
    for package, base in SOURCES.items():
        for path in sorted((base / package).rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports_of(name: str, path: Path) -> Iterator[Import]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        targets: list[str] = []
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            targets = [f"{base}.{alias.name}" for alias in node.names]
        for target in targets:
            whole = target
            if whole.split(".")[0] in SOURCES:
                while whole not in MODULES and "." in whole:  # a name in a module
                    whole = whole.rpartition(".")[0]
            yield Import(name, whole, f"{path.relative_to(ROOT)}:{node.lineno}")


IMPORTS = [one for name, path in MODULES.items() for one in imports_of(name, path)]
OURS = [one for one in IMPORTS if one.imported in MODULES and one.imported != one.importer]


def room(module: str) -> str:
    """`phq_data.stages.fit` -> `stages`; the package itself has no room: ''."""
    return module.split(".")[1] if "." in module else ""


def floor_of(module: str) -> int:
    """Number of the floor; -1 is the ground, where a package's own `__init__` lies."""
    package = module.split(".")[0]
    if not room(module):
        return -1
    return next(number for number, rooms in enumerate(FLOORS[package]) if room(module) in rooms)


def test_every_room_has_one_floor():
    for package, floors in FLOORS.items():
        declared = [name for rooms in floors for name in rooms]
        assert len(declared) == len(set(declared))
        there = {room(module) for module in MODULES if module.split(".")[0] == package} - {""}
        assert there <= set(declared), (
            f"{package}: {sorted(there - set(declared))} stand on no floor of FLOORS"
        )


def test_no_import_goes_up_or_to_a_room_of_the_same_floor():
    upwards = [
        f"{one.place}: {one.importer} imports {one.imported}"
        for one in OURS
        for package in FLOORS
        if one.importer.split(".")[0] == package == one.imported.split(".")[0]
        and room(one.importer) != room(one.imported)
        and floor_of(one.importer) <= floor_of(one.imported)
    ]
    assert not upwards, "imports that go upwards:\n" + "\n".join(upwards)


def test_no_modules_import_each_other_in_a_circle():
    graph: dict[str, dict[str, str]] = {}
    for one in OURS:
        graph.setdefault(one.importer, {}).setdefault(one.imported, one.place)
    circles = []
    done: set[str] = set()
    for start in sorted(graph):
        circle = find_circle(graph, start, done)
        if circle:
            steps = [f"  {graph[a][b]}: {a} imports {b}" for a, b in itertools.pairwise(circle)]
            circles.append("\n".join(steps))
    assert not circles, "circles of imports:\n" + "\n\n".join(circles)


def find_circle(graph: dict[str, dict[str, str]], start: str, done: set[str]) -> list[str]:
    """A circle that can be reached from `start`, its first module repeated at its end; [] if there is none.
    `done` collects modules from which there is none."""
    way: list[str] = []
    todo = [(start, iter(graph.get(start, ())))]
    way.append(start)
    while todo:
        module, others = todo[-1]
        following = next((other for other in others if other not in done), None)
        if following is None:
            done.add(module)
            todo.pop()
            way.pop()
        elif following in way:
            done.update(way)
            return [*way[way.index(following) :], following]
        else:
            way.append(following)
            todo.append((following, iter(graph.get(following, ()))))
    return []


def test_a_circle_is_found():
    graph = {"a": {"b": ""}, "b": {"c": ""}, "c": {"b": "", "d": ""}}
    assert find_circle(graph, "a", set()) == ["b", "c", "b"]
    assert find_circle({"a": {"b": "", "c": ""}, "b": {"c": ""}}, "a", set()) == []


def test_packages_import_only_those_below_them():
    wrong = [
        f"{one.place}: {one.importer} imports {one.imported}"
        for one in OURS
        if (package := one.importer.split(".")[0]) != (other := one.imported.split(".")[0])
        and other not in PACKAGES[package]
    ]
    assert not wrong, "forbidden imports between packages:\n" + "\n".join(wrong)


def test_portraitgan_imports_the_light_core_and_the_release_reader_alone():
    wrong = [
        f"{one.place}: {one.importer} imports {one.imported}"
        for one in OURS
        if one.importer.split(".")[0] == "portraitgan"
        and one.imported.split(".")[0] == "phq_data"
        and room(one.imported) not in LIGHT_CORE
        and one.imported != "phq_data.release.reader"
    ]
    assert not wrong, "portraitgan imports more than the light core:\n" + "\n".join(wrong)


def test_stages_know_no_workspace_and_nobody_below_the_flows_knows_prefect():
    wrong = [
        f"{one.place}: {one.importer} imports {one.imported}"
        for one in IMPORTS
        if (one.importer.startswith("phq_data.stages") and one.imported.startswith("phq_data.workspace"))
        or any(
            one.importer.startswith(place) and one.imported.split(".")[0] in others
            for place, others in OUTSIDE.items()
        )
    ]
    assert not wrong, "\n".join(wrong)


def test_what_is_done_in_one_place_is_imported_there_alone():
    wrong = [
        f"{one.place}: {one.importer} imports {one.imported}, which is {ONE_PLACE[package]}'s"
        for one in IMPORTS
        for package in ONE_PLACE
        if f"{one.imported}.".startswith(f"{package}.")
        and one.importer != ONE_PLACE[package]
        and not one.importer.startswith("benchmarks.")  # they also make files as others do
    ]
    assert not wrong, "\n".join(wrong)


def test_every_public_error_is_of_the_one_family():
    """Programs catch `PhqError` alone; an error outside of it would reach the user as a traceback."""
    bases: dict[str, list[str]] = {}
    places: dict[str, str] = {}
    for name, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                bases[node.name] = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
                places[node.name] = f"{name}.{node.name}"

    def descends(name: str, ends: Callable[[str], bool]) -> bool:
        return ends(name) or any(descends(base, ends) for base in bases.get(name, ()))

    def builtin_error(name: str) -> bool:
        found = getattr(builtins, name, None)
        return isinstance(found, type) and issubclass(found, Exception) and not issubclass(found, Warning)

    errors = [name for name in bases if not name.startswith("_") and descends(name, builtin_error)]
    others = [places[name] for name in errors if not descends(name, lambda base: base == "PhqError")]
    assert not others, f"derive these from phq_data.errors.PhqError: {', '.join(others)}"
    assert len(errors) > 40
