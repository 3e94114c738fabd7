"""Writes what follows from csrc/dnnext.h, where a kernel is declared once; run it after a change there.

    python csrc/declare.py           writes csrc/table.h, dnnext/kernels/_dnnext.pxd and the .pyi files of the kernels
    python csrc/declare.py --check   only says which of them are not current

The types in the .pyi files are those of the NumPy twins, dnnext/kernels/reference*.py.
"""

import ast
import re
import sys
import textwrap
from keyword import iskeyword
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEADER = ROOT / "csrc" / "dnnext.h"
KERNELS = ROOT / "dnnext" / "kernels"
WIDTH = 120
MODULES = ("_curvature", "_layers", "_mlp", "_residual", "_rows", "_steps")
FROM = "made from csrc/dnnext.h by csrc/declare.py"


def without_comments(text: str) -> str:
    """C text without comments, preprocessor lines and line breaks."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    return " ".join(re.sub(r"^\s*#.*$", "", text, flags=re.M).split())


def structs(text: str) -> list[tuple[str, str]]:
    """(name, fields) of every struct, in order."""
    return [(name, fields) for fields, name in re.findall(r"typedef struct \{(.*?)\} (\w+);", text)]


def kernels(text: str) -> list[str]:
    """The names in the table."""
    return re.findall(r"\(\*(\w+)\)\(", dict(structs(text))["dnn_table"])


def declarations(fields: str) -> list[str]:
    """Cython's fields of a struct, one each: ``const void *a, *b`` is two."""
    made = []
    for field in filter(None, (part.strip() for part in fields.split(";"))):
        pointer = re.fullmatch(r"(\w+) \(\*(\w+)\)\((.*)\)", field)
        if pointer:
            made.append(f"{pointer[1]} (*{pointer[2]})({pointer[3].strip()}) noexcept nogil")
            continue
        kind, first = re.fullmatch(r"((?:const )?\w+) (.*)", field).groups()
        names = [name.strip() for name in first.split(",")]
        made += [f'{kind} {name}_ "{name}"' if iskeyword(name) else f"{kind} {name}" for name in names]
    return made


def wrapped(line: str, indent: str) -> list[str]:
    """A declaration in lines of at most WIDTH characters; arguments that do not fit stand below their function."""
    if len(indent + line) <= WIDTH:
        return [indent + line]
    cut = line.rindex("(", 0, line.index(", ")) + 1
    inner, kept = indent + "    ", re.sub("(?<!,) ", "\0", line[cut:])  # lines break after commas only
    lines = textwrap.wrap(kept, WIDTH, initial_indent=inner, subsequent_indent=inner, break_long_words=False)
    return [indent + line[:cut], *(part.replace("\0", " ") for part in lines)]


def pxd(text: str) -> str:
    """The header as Cython reads it."""
    lines = [f"# The C interface, {FROM}.", "from libc.stdint cimport int32_t, int64_t", ""]
    lines += ['cdef extern from "dnnext.h" nogil:', "    ctypedef void (*dnn_function)()"]
    for body in re.findall(r"enum \{(.*?)\};", text):
        lines += ["    enum:", *(f"        {name.split('=')[0].strip()}" for name in body.split(","))]
    for name, fields in structs(text):
        lines.append(f"    ctypedef struct {name}:")
        lines += [part for field in declarations(fields) for part in wrapped(field, "        ")]
    rest = re.sub(r"typedef struct \{.*?\} \w+;|enum \{.*?\};|typedef void \(\*dnn_function\)\(void\);", "", text)
    for prototype in filter(None, (part.strip() for part in rest.split(";"))):
        lines += wrapped(prototype.replace("(void)", "()") + " noexcept", "    ")
    return "\n".join(lines) + "\n"


def table(text: str) -> str:
    """The initialiser of one instance's table."""
    entries = [f"    .{name} = {name}, \\" for name in kernels(text)]
    entries[-1] = entries[-1].removesuffix(", \\")
    head = f"/* table.h: the kernels of one instance, {FROM}. */\n/* clang-format off */\n#define DNN_KERNELS \\\n"
    return head + "\n".join(entries) + "\n/* clang-format on */\n"


def twins() -> dict[str, ast.FunctionDef]:
    """The NumPy twins by name."""
    found = {}
    for path in sorted(KERNELS.glob("reference*.py")):
        found |= {node.name: node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
    return found


def defined(path: Path) -> set[str]:
    """The types that a file of twins makes."""
    body = ast.parse(path.read_text()).body
    targets = [node.targets[0] for node in body if isinstance(node, ast.Assign)]
    aliases = {target.id for target in targets if isinstance(target, ast.Name) and target.id[0].isupper()}
    return aliases | {node.name for node in body if isinstance(node, ast.ClassDef)}


def stub(module: str) -> str:
    """The .pyi file of a .pyx file: its functions, with the types of their twins."""
    known = twins()
    names = re.findall(r"^def (\w+)\(", (KERNELS / f"{module}.pyx").read_text(), flags=re.M)
    lines, used = [], set()
    for name in names:
        twin = known[name]
        used |= {node.id for node in ast.walk(twin.args) if isinstance(node, ast.Name)}
        arguments = ast.unparse(twin.args).replace("=", " = ")
        line = f"def {name}({arguments}) -> None: ..."
        if len(line) > WIDTH and len(arguments) <= WIDTH - 4:
            line = f"def {name}(\n    {arguments}\n) -> None: ..."
        elif len(line) > WIDTH:
            line = "\n".join([f"def {name}(", *(f"    {part}," for part in arguments.split(", ")), ") -> None: ..."])
        lines.append(line)
    head = ["# The types of the NumPy twins; made by csrc/declare.py."]
    head += ["from collections.abc import Sequence", ""] if "Sequence" in used else []
    for path in sorted(KERNELS.glob("reference*.py")):
        types = sorted(used & defined(path))
        used -= set(types)
        head += [f"from dnnext.kernels.{path.stem} import {', '.join(types)}"] if types else []
    head.append("")
    return "\n".join([*head, *lines]) + "\n"


def files() -> dict[Path, str]:
    """Every generated file and what belongs into it."""
    text = without_comments(HEADER.read_text())
    made = {HEADER.with_name("table.h"): table(text), KERNELS / "_dnnext.pxd": pxd(text)}
    return made | {KERNELS / f"{module}.pyi": stub(module) for module in MODULES}


def main(arguments: list[str]) -> int:
    """Write the files, or with --check say which are not current."""
    stale = [path for path, text in files().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if "--check" in arguments:
            print(f"{path.relative_to(ROOT)} is not current: run python csrc/declare.py")
        else:
            path.write_text(files()[path])
    return int("--check" in arguments and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
