"""What the README and docs/python.md show as Python runs as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.user import ROOT, TIMEOUT_S, User


def blocks(document: str) -> str:
    """Return all Python of a document as one program."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL))


@pytest.mark.parametrize("document", ["README.md", "docs/python.md"])
def test_python_of_the_documents_runs(document: str, tmp_path: Path) -> None:
    user = User(tmp_path)
    user.env["PATH"] = f"{Path(sys.executable).parent}:{user.env['PATH']}"  # as if activated: a Debian has no `python`
    # Their pilots would wait for more to come.
    program = user.file("example.py", re.sub(r'idle="\w+"', 'idle="0.5s"', blocks(document)))
    user.file("work.py", "import sys\nprint(float(sys.argv[1]) + int(sys.argv[2]))\n")
    done = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, env=user.env, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    said = done.stdout.splitlines()
    if document == "README.md":
        assert len(said) == 20 + 1
        assert said[-1] == "332833500"
        assert "{'mass': '2.5', 'seed': '9'} b'11.5\\n'" in said
    else:
        assert "3 3 12" in said
        assert "5 done, 1 failed" in said
    user.wait_alone()
