"""How the page looks: Gradio's theme with the system's own fonts, and what is the page's own."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gradio as gr

STYLE = """
.gradio-container {max-width: 1180px !important; width: 100% !important; margin: 0 auto !important}
.gradio-container > main, .gradio-container .fillable {width: 100% !important}
footer {display: none !important}
#title h1 {margin-bottom: 0}
#title p {opacity: .8}

.roll {display: block; width: 100%; height: min(44vw, 280px); color: var(--body-text-color);
       background: var(--background-fill-secondary); border-radius: 6px}
.facts {opacity: .85; margin: .3em 0 .5em}
.facts, .problem, #midi td {overflow-wrap: anywhere; white-space: normal}
#midi table {table-layout: fixed}
.problem {border-left: 4px solid #e5594f; padding: .5em .8em; background: var(--background-fill-secondary)}
.remarks {margin: .2em 0; padding-left: 1.2em; opacity: .85; font-size: .92em; list-style: disc}

.orchestra {max-height: 26rem; overflow: auto; border: 1px solid var(--border-color-primary); border-radius: 6px}
.orchestra table {width: 100%; border-collapse: collapse; font-size: .92em; margin: 0 !important; border: 0 !important}
.orchestra thead, .orchestra tbody, .orchestra tr {border: 0 !important}
.orchestra th, .orchestra td {padding: .3em .6em; text-align: left; border: 0 !important;
                              border-bottom: 1px solid var(--border-color-primary) !important}
.orchestra tbody tr:last-child > * {border-bottom: 0 !important}
.orchestra thead th {position: sticky; top: 0; z-index: 1; background: var(--background-fill-secondary);
                     font-weight: 600; white-space: nowrap}
.orchestra tbody th {font-weight: 600}
.orchestra td:nth-child(3), .orchestra td:nth-child(4), .orchestra td:nth-child(5), .orchestra td:nth-child(6)
  {white-space: nowrap; font-variant-numeric: tabular-nums}
.orchestra .number {opacity: .6; font-weight: 400}
.orchestra select {appearance: auto; width: 100%; min-width: 8.5em; padding: .35em .5em; font: inherit;
                   color: var(--body-text-color); background: var(--input-background-fill);
                   border: 1px solid var(--border-color-primary); border-radius: 4px}
.orchestra select:focus-visible {outline: 2px solid var(--color-accent)}
.orchestra tr.muted > :not(.choice) {opacity: .45}
.orchestra tr.swapped .sounds {font-weight: 600; color: var(--color-accent)}
.swatch {display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .45em}

.actions {position: sticky; bottom: 0; z-index: 6; padding: .6em 0; background: var(--body-background-fill)}
.progress {height: 6px; border-radius: 3px; background: var(--border-color-primary); overflow: hidden; margin: .5em 0}
.progress > div {height: 100%; background: var(--color-accent)}
.live audio {width: 100%}
.waiting {font-weight: 600}
#status:not(:has(p)), #live:not(:has(audio)), #overview:not(:has(p)), #remarks:not(:has(li)) {display: none !important}

@media (max-width: 700px) {
  .orchestra {max-height: none}
  .orchestra thead {display: none}
  .orchestra table, .orchestra tbody {display: block}
  .orchestra tr {display: grid; grid-template-columns: 3fr 2fr; padding: .45em .6em}
  .orchestra tr + tr {border-top: 1px solid var(--border-color-primary) !important}
  .orchestra th, .orchestra td {padding: 0; border: 0 !important}
  .orchestra tbody th {grid-row: 1; grid-column: 1; align-self: center}
  .orchestra td.choice {grid-row: 1; grid-column: 2}
  .orchestra td[data-label] {font-size: .88em; white-space: normal}
  .orchestra td[data-label]::before {content: attr(data-label) " "; opacity: .65}
  .orchestra td[data-label="Track"], .orchestra td[data-label="Notes"], .orchestra td[data-label="At once"]
    {grid-column: 1}
  .orchestra td.sounds {grid-column: 1 / 3}
  .orchestra select {min-width: 0}
}
"""


def theme() -> "gr.themes.Base":
    """Nothing is fetched from elsewhere."""
    import gradio as gr

    return gr.themes.Default(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
