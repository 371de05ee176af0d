#!/bin/sh
# Prints the path of a Python >= 3.12 that can make virtual environments; fails with the ways out.
#
# A name on PATH is not enough: a pyenv shim answers with an error when the version that
# .python-version asks for is not installed, and `python3` may be too old. So each candidate is run.
wanted=$(cat .python-version 2>/dev/null || echo 3.13)
pyenv_root=${PYENV_ROOT:-$HOME/.pyenv}
uv_root=${UV_PYTHON_INSTALL_DIR:-${XDG_DATA_HOME:-$HOME/.local/share}/uv/python}

for candidate in ${PYTHON:+"$PYTHON"} "python$wanted" python3 python3.13 python3.12 python3.14 python \
    "$pyenv_root/versions/$wanted"*/bin/python3 "$pyenv_root"/versions/3.1[2-9]*/bin/python3 \
    "$uv_root"/cpython-3.1[2-9]*/bin/python3 /usr/local/bin/python3 /opt/homebrew/bin/python3; do
  # `sys.executable` sees through shims.
  "$candidate" -c 'import ensurepip, sys, venv
if sys.version_info < (3, 12): sys.exit(1)
print(sys.executable)' 2>/dev/null && exit 0
done

cat >&2 <<'MESSAGE'
No usable Python >= 3.12 was found (on PATH, among pyenv's versions, or among uv's).
Install one in any of these ways, then run make again:
  uv python install 3.13
  pyenv install 3.13
  apt install python3 python3-venv      (where the distribution has 3.12 or later)
or name one:  make env PYTHON=/path/to/python3.13
MESSAGE
exit 1
