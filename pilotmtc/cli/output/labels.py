"""Lines of tasks' outputs, each with a label that says whose it is."""

from collections.abc import Iterable, Iterator, Mapping

from pilotmtc.text.plain import plain


def label_of(task: int, name: str | None, params: Mapping[str, str]) -> str:
    """Return what a task is known by: its name, or else its values, or else its number."""
    values = [f"{field}={value}" if not field.isdecimal() else value for field, value in params.items() if field != "#"]
    return plain(name or params.get("command") or " ".join(values)) or f"task {task}"


def labelled(blocks: Iterable[bytes], label: str) -> Iterator[bytes]:
    """Yield blocks with the label and a tab before each line; the last line gets an end if it has none."""
    mark = label.encode("utf-8", "replace") + b"\t"
    begins = True
    for block in blocks:
        if not block:
            continue
        inside = block[:-1].replace(b"\n", b"\n" + mark) + block[-1:]
        yield mark + inside if begins else inside
        begins = block.endswith(b"\n")
    if not begins:
        yield b"\n"
