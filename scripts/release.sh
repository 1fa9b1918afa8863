#!/usr/bin/env bash
# Builds the source distribution and the wheel, checks both, and tries the wheel on every Python that is supported.
#
#   git tag v0.2.0 && scripts/release.sh          # then: twine upload dist/*
#   scripts/release.sh --pythons "python3.12"     # the ones to try; by default those of 3.11, 3.12 and 3.13 there are
#
# Needs a package index. Leaves dist/; exits non-zero when anything fails.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
pythons="python3.11 python3.12 python3.13"
if [ "${1-}" = "--pythons" ]; then pythons=${2:?"--pythons needs names"}; fi
scratch=$(mktemp -d "${TMPDIR:-/tmp}/specdiff-release.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

echo "== build"
python3 -m venv "$scratch/tools"
"$scratch/tools/bin/pip" install --quiet build twine
rm -rf dist
"$scratch/tools/bin/python" -m build --outdir dist . >"$scratch/build.log" 2>&1 || { cat "$scratch/build.log" >&2; exit 1; }
"$scratch/tools/bin/twine" check --strict dist/*
ls -l dist

tried="" missing=""
for python in $pythons; do
  if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    missing="$missing $python"
    continue
  fi
  echo "== $python: $("$python" --version)"
  "$python" -m venv "$scratch/venv"
  # From the wheel alone, elsewhere than in the checkout, as a user has it.
  "$scratch/venv/bin/pip" install --quiet -c constraints.txt dist/*.whl
  (cd "$scratch" && "$root/scripts/smoke.sh" "$scratch/venv/bin" "$root/examples/demo_song.py")
  tried="$tried $python"
  rm -rf "$scratch/venv"
done
[ -n "$tried" ] || { echo "error: no Python to try the wheel on" >&2; exit 1; }
echo "== passed on$tried${missing:+; not here, so not tried:$missing}"
