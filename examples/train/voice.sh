#!/usr/bin/env bash
# A voice from nothing but a soundfont and a folder of MIDI files: corpus, network, vocoder, voice, report.
#
#   examples/train/voice.sh SOUNDFONT MIDI_FOLDER OUT             # two CPU cores: about three hours
#   examples/train/voice.sh SOUNDFONT MIDI_FOLDER OUT gpu         # one large GPU, 16 cores: planned for 25 minutes
#   examples/train/voice.sh SOUNDFONT MIDI_FOLDER OUT smoke       # every step once, in minutes; the voice is useless
#
# Run again after an interruption, it goes on where it stopped. OUT receives corpus/, runs/, voices/NAME/ and report/.
# With PIECES_MIB=16 the voice and the states of the runs are also cut into OUT/pieces/, for machines whose files can
# only be fetched bit by bit; `cat OUT/pieces/voice.tar.* | tar x` puts them together again.
set -euo pipefail

if [ $# -lt 3 ] || [ $# -gt 4 ]; then
    sed -n '2,10p' "$0" | sed 's/^# \{0,1\}//' >&2
    exit 2
fi
soundfont=$1 midi=$2 out=$3 kind=${4:-cpu}
here=$(cd "$(dirname "$0")" && pwd)
case $kind in
    cpu) hours=12 held_out=0.02 model=tiny.toml vocoder=vocoder.toml steps=2 ;;
    gpu) hours=30 held_out=0.02 model=tiny-gpu.toml vocoder=vocoder-gpu.toml steps=4 ;;
    smoke) hours=0.1 held_out=0.25 model=smoke.toml vocoder=vocoder-smoke.toml steps=1 ;;
    *) echo "voice.sh: $kind is not cpu, gpu or smoke" >&2; exit 2 ;;
esac
name=${NAME:-mine}

# A run that is finished refuses to go on; its mark says so across calls.
once() {
    local mark="$out/runs/$1.finished"
    shift
    if [ -e "$mark" ]; then return; fi
    "$@"
    touch "$mark"
}

specdiff train data --out "$out/corpus" --soundfont "$soundfont" --midi "$midi" --hours "$hours" --seed 1 \
    --validation-share "$held_out"
mkdir -p "$out/runs"
once model specdiff train model "$here/$model" --corpus "$out/corpus" --out "$out/runs/model"
once vocoder specdiff train vocoder "$here/$vocoder" --corpus "$out/corpus" --out "$out/runs/vocoder"
specdiff train export "$out/runs/model" --vocoder "$out/runs/vocoder" --voice "$out/voices/$name" \
    --steps "$steps" --overwrite
specdiff evaluate "$out/voices/$name" --compare tiny --midi "$out/corpus/validation" --soundfont "$soundfont" \
    --max-seconds 20 --no-transcriber -o "$out/report" --overwrite

if [ -n "${PIECES_MIB:-}" ]; then
    mkdir -p "$out/pieces"
    tar c -C "$out" voices runs | split -b "$((PIECES_MIB * 1024 * 1024 - 4096))" -d - "$out/pieces/voice.tar."
fi
echo "$out/voices/$name: try it with  specdiff render song.mid --model $out/voices/$name" >&2
