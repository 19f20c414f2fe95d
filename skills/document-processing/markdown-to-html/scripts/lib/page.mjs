/** The standalone HTML page around a rendered document. */

import { escapeHtml } from "./html.mjs"

const STYLE = `:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 1rem/1.6 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3, h4, h5, h6 { line-height: 1.25; margin: 1.8em 0 0.6em; }
pre, code { font-family: ui-monospace, monospace; font-size: 0.92em; }
code { background: var(--soft); padding: 0.1em 0.3em; border-radius: 3px; }
pre { background: var(--soft); padding: 0.8rem 1rem; border-radius: 5px; overflow-x: auto; }
pre code { background: none; padding: 0; }
blockquote { margin: 1em 0; padding: 0 1rem; border-left: 4px solid var(--line); }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border: 1px solid var(--line); padding: 0.3rem 0.7rem; }
img { max-width: 100%; }
li.task { list-style: none; margin-left: -1.4em; }
nav.contents { border-left: 4px solid var(--line); padding-left: 0.5rem; }
hr { border: 0; border-top: 1px solid var(--line); }`

/** Keeps a style sheet from ending its own element. */
const inlineStyle = (css) => css.trim().replace(/<\/(?=style)/gi, "<\\/")

export const renderPage = ({ contents, css, html, lang, title }) =>
  `<!doctype html>
<html lang="${escapeHtml(lang)}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>
${inlineStyle(css ?? STYLE)}
</style>
</head>
<body>
${contents === "" ? "" : `${contents}\n`}<main>
${html}
</main>
</body>
</html>
`
