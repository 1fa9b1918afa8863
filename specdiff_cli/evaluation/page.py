"""The page of an evaluation: one HTML file without scripts; what it refers to lies beside it."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

#: Measure -> (heading, explanation, format).
MEASURES = {
    "log_mel_l1": ("log-mel L1", "mean difference of the log-mel features, nepers; 0 is equal", "{:.3f}"),
    "log_mel_l1_of_ceiling": ("× ceiling", "that difference over the one of the vocoder alone", "{:.2f}"),
    "spectral_convergence": ("convergence", "multi-resolution STFT: relative error of magnitudes", "{:.3f}"),
    "log_spectrum": ("log-spectrum", "multi-resolution STFT: difference of log-magnitudes, nepers", "{:.3f}"),
    "level_db": ("level dB", "loudness above the reference's", "{:+.1f}"),
    "loudness_db": ("loudness dB", "integrated loudness (BS.1770) above the reference's", "{:+.1f}"),
    "loudness_error_db": ("farthest dB", "the largest difference of loudness of any piece", "{:.1f}"),
    "zimtohrli": ("Zimtohrli", "predicted opinion of listeners against the reference, 1 to 5; 5 is equal", "{:.2f}"),
    "visqol": ("ViSQOL", "predicted opinion of listeners against the reference, 1 to 5; 4.75 is equal", "{:.2f}"),
    "frechet_distance": (
        "Fréchet",
        "distance of a network's features (musicnn's, or another's) from the reference's, all pieces together",
        "{:.2f}",
    ),
    "onset_precision": ("precision", "share of the notes heard that are written", "{:.3f}"),
    "onset_recall": ("recall", "share of the notes written that are heard", "{:.3f}"),
    "onset_f1": ("onset F1", "both together", "{:.3f}"),
    "onset_f1_of_reference": ("F1 / reference", "onset F1 over the reference's own", "{:.2f}"),
    "boundary_jump": (
        "jump",
        "step of the spectrogram where windows meet over that elsewhere; 1 is seamless",
        "{:.2f}",
    ),
    "x_realtime": ("× realtime", "seconds of audio per second of work", "{:.1f}"),
}

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
.met { color: #17692f; } .missed { color: #a3261b; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-weight: 600; }
img { width: 100%; height: 12rem; display: block; background: #040414; } audio { width: 100%; }
small, .note { color: #666; } svg text { font: 12px system-ui, sans-serif; }
"""
LINE_COLOURS = ("#7b2d8b", "#c7522a", "#2a6f97", "#5a7d2a", "#8a6d1d", "#444444")
CHART_WIDTH, CHART_HEIGHT, MARGIN = 420, 240, 46


def page(report: Mapping[str, Any], files: Mapping[tuple[str, str], str]) -> str:
    """The whole page. ``files``: (piece, recording) -> stem of its files in ``audio/`` and ``images/``."""
    body = "\n".join(_sections(report, files))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>specdiff evaluation</title>'
        f"<style>{STYLE}</style></head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _sections(report: Mapping[str, Any], files: Mapping[tuple[str, str], str]) -> Iterator[str]:
    recordings = report["recordings"]
    yield "<h1>Evaluation</h1>"
    yield f'<p class="note">specdiff {escape(report["specdiff"])}, {escape(report["made_at"])}</p>'
    yield "<h2>All pieces</h2>"
    yield _table([(item["label"], item["mean"], item.get("meets", {})) for item in recordings])
    yield _targets(report["targets"])
    yield from _curves(recordings)
    for index, piece in enumerate(report["pieces"]):
        yield f"<h2>{escape(piece['name'])}</h2>"
        yield f"<p>{escape(_about(piece))}</p>"
        for item in recordings:
            played = item["pieces"][index].get("instruments", piece["instruments"])
            if set(played) != set(piece["instruments"]):
                changes = "; ".join(item["pieces"][index]["changes"])
                line = f"{item['label']} plays {', '.join(played)}: {changes}."
                yield f'<p class="note">{escape(line)}</p>'
        yield _table([(item["label"], item["pieces"][index], {}) for item in recordings])
        yield '<div class="cards">'
        for item in recordings:
            yield _card(item["label"], files.get((piece["name"], item["label"])))
        yield "</div>"
    yield "<h2>Circumstances</h2>"
    yield _circumstances(report)
    yield "<h2>Measures</h2><dl>"
    for heading, explanation, _ in MEASURES.values():
        yield f"<dt><b>{escape(heading)}</b></dt><dd>{escape(explanation)}</dd>"
    yield "</dl>"


def _about(piece: Mapping[str, Any]) -> str:
    drums = f", of them {piece['n_drum_notes']} drums" if piece["n_drum_notes"] else ""
    reference = "FluidSynth" if piece["reference"] == "rendered" else piece["reference"]
    return (
        f"{piece['duration_s']:.1f} s, {piece['n_notes']} notes{drums}: {', '.join(piece['instruments'])}. "
        f"Reference: {reference}, with these instruments."
    )


def cell(name: str, row: Mapping[str, Any]) -> str:
    """A measure as text; a dash where it does not apply."""
    value = row[name]
    return "–" if value is None else MEASURES[name][2].format(value)


def _table(rows: Sequence[tuple[str, Mapping[str, Any], Mapping[str, bool | None]]]) -> str:
    heads = "".join(f'<th title="{escape(text)}">{escape(head)}</th>' for head, text, _ in MEASURES.values())
    lines = []
    for label, values, met in rows:
        cells = []
        for name in MEASURES:
            verdict = met.get(name)
            mark = "" if verdict is None else ' class="met"' if verdict else ' class="missed"'
            cells.append(f"<td{mark}>{cell(name, values)}</td>")
        lines.append(f"<tr><td>{escape(label)}</td>{''.join(cells)}</tr>")
    return f"<table><thead><tr><th></th>{heads}</tr></thead><tbody>\n" + "\n".join(lines) + "\n</tbody></table>"


def _targets(targets: Mapping[str, Mapping[str, Any]]) -> str:
    words = {">=": "at least", "<=": "at most"}
    parts = [f"{MEASURES[name][0]} {words[item['is']]} {item['value']:g}" for name, item in targets.items()]
    return f'<p class="note">Targets: {escape("; ".join(parts))}. Green meets one, red misses it.</p>'


def _card(label: str, stem: str | None) -> str:
    if stem is None:
        return ""
    return (
        f'<figure><figcaption>{escape(label)}</figcaption><a href="images/{stem}.png"><img src="images/{stem}.png" '
        f'alt="spectrogram of {escape(label)}" loading="lazy"></a>'
        f'<audio controls preload="none" src="audio/{stem}.flac"></audio></figure>'
    )


def _circumstances(report: Mapping[str, Any]) -> str:
    items = [(name, value) for name, value in report["circumstances"].items() if name != "voices"]
    for voice in report["circumstances"].get("voices", []):
        items += [(f"{voice['voice']}: {file}", digest) for file, digest in voice["sha256"].items()]
    for item in report["recordings"]:
        if item["kind"] == "render":
            sampling = ", ".join(
                f"{name} {item[name]}"
                for name in ("vocoder", "steps", "sampler", "schedule", "guidance", "seed", "device", "dtype")
            )
            items.append((item["label"], sampling))
    lines = (f"<tr><td>{escape(str(name))}</td><td>{escape(str(value))}</td></tr>" for name, value in items)
    return "<table>" + "\n".join(lines) + "</table>"


def _curves(recordings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Quality against steps, where a voice was rendered with several numbers of them."""
    by_voice: dict[str, list[Mapping[str, Any]]] = {}
    for item in recordings:
        if item["kind"] == "render":
            by_voice.setdefault(item["voice"], []).append(item)
    by_voice = {voice: items for voice, items in by_voice.items() if len({item["steps"] for item in items}) > 1}
    if not by_voice:
        return
    yield "<h2>Quality against steps</h2>"
    for name in ("onset_f1_of_reference", "log_mel_l1_of_ceiling", "x_realtime"):
        lines = {
            voice: sorted((item["steps"], item["mean"][name]) for item in items if item["mean"][name] is not None)
            for voice, items in by_voice.items()
        }
        if all(len(points) > 1 for points in lines.values()):
            yield _chart(MEASURES[name][0], lines)


def _chart(title: str, lines: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Lines over the number of steps, which stand at equal distances: they are chosen, not measured."""
    steps = sorted({step for points in lines.values() for step, _ in points})
    values = [value for points in lines.values() for _, value in points]
    low, high = min(values), max(values)
    room = (high - low) * 0.1 or abs(high) * 0.1 or 1.0
    low, high = low - room, high + room

    def at(step: int, value: float) -> tuple[float, float]:
        x = MARGIN + (CHART_WIDTH - 2 * MARGIN) * steps.index(step) / max(1, len(steps) - 1)
        y = CHART_HEIGHT - MARGIN - (CHART_HEIGHT - 2 * MARGIN) * (value - low) / (high - low)
        return round(x, 1), round(y, 1)

    parts = [f'<text x="{MARGIN}" y="16" font-weight="bold">{escape(title)} against steps</text>']
    for step in steps:
        parts.append(
            f'<text x="{at(step, low)[0]}" y="{CHART_HEIGHT - MARGIN + 18}" text-anchor="middle">{step}</text>'
        )
    for value in (low + room, high - room):
        y = at(steps[0], value)[1]
        parts.append(f'<line x1="{MARGIN}" x2="{CHART_WIDTH - MARGIN}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{MARGIN - 6}" y="{y + 4}" text-anchor="end">{value:.2f}</text>')
    for index, (voice, points) in enumerate(lines.items()):
        colour = LINE_COLOURS[index % len(LINE_COLOURS)]
        places = [at(*point) for point in points]
        path = " ".join(f"{x},{y}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in places]
        x = MARGIN + 110 * index
        parts.append(f'<text x="{x}" y="{CHART_HEIGHT - 6}" fill="{colour}">{escape(voice[:16])}</text>')
    body = "".join(parts)
    return f'<svg width="{CHART_WIDTH}" height="{CHART_HEIGHT}" viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}">{body}</svg>'
