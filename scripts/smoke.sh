#!/usr/bin/env bash
# Is what is installed in BIN (a virtual environment's bin) able to do its work? smoke.sh BIN DEMO_SONG.PY
set -euo pipefail

bin=${1:?"give the bin folder of a virtual environment"}
demo=${2:?"give examples/demo_song.py"}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$bin/specdiff" --version
"$bin/python" "$demo" "$folder/demo.mid"
"$bin/specdiff" inspect-midi "$folder/demo.mid" >/dev/null
"$bin/specdiff" render "$folder/demo.mid" -o "$folder/demo.flac" --end 6 --quiet
"$bin/specdiff" inspect-wav "$folder/demo.flac"
"$bin/python" -c 'import specdiff_cli; assert specdiff_cli.__version__ != "0+unknown"; specdiff_cli.load_voice("tiny")'
