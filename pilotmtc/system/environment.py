"""The submitter's environment, for tasks that are to have it."""

import os
import re
from collections.abc import Mapping

# What belongs to a login, a terminal, a host or a batch job rather than to the work; `*` is any text.
LEFT_OUT = """
_ SHLVL PWD OLDPWD HOME USER LOGNAME USERNAME SHELL MAIL HOST HOSTNAME TMPDIR TMP TEMP
TERM TERM_* COLORTERM COLUMNS LINES WINDOWID TMUX TMUX_* STY WINDOW LS_COLORS PS1 PS2 PS3 PS4 PROMPT_COMMAND HIST*
DISPLAY WAYLAND_DISPLAY XAUTHORITY XDG_RUNTIME_DIR XDG_SESSION_* XDG_SEAT XDG_VTNR DBUS_* SSH_* GPG_* KRB5CCNAME SUDO_*
SLURM_* SLURMD_* SBATCH_* SRUN_* SALLOC_* PBS_* MOAB_* _CONDOR_* CONDOR_* LSB_* SGE_* PMI_* PMIX_* PALS_* OMPI_COMM_*
CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES ZE_AFFINITY_MASK GPU_DEVICE_ORDINAL PILOTMTC_*
*PASSWORD* *PASSWD* *PASSPHRASE* *SECRET* *TOKEN* *CREDENTIAL* *API_KEY* *APIKEY* *ACCESS_KEY* *PRIVATE_KEY*
"""
_LEFT_OUT = re.compile("|".join(re.escape(name).replace(r"\*", ".*") for name in LEFT_OUT.split()))
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|BASH_FUNC_.+%%")


def captured(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of `environ` that tasks elsewhere should have, too; those that are not UTF-8 are none."""
    return {
        name: value
        for name, value in environ.items()
        if _NAME.fullmatch(name) and not _LEFT_OUT.fullmatch(name.upper()) and _is_text(value)
    }


def captured_here() -> dict[str, str]:
    """Return those of this process."""
    return captured(os.environ)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
