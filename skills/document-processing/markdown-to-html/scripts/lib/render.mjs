/** Renders parsed Markdown as HTML and collects its headings. */

import { parseBlocks } from "./blocks.mjs"
import { escapeHtml } from "./html.mjs"
import { renderInlines } from "./inlines.mjs"

/** Makes a heading's identifier as GitHub does: lower case, punctuation dropped, blanks as hyphens, repeats numbered. */
const slugger = () => {
  const used = new Set()
  return (text) => {
    const base = text.toLowerCase().replace(/[^\p{L}\p{N}\p{M}_\- ]/gu, "").trim().replace(/ /g, "-") || "section"
    let slug = base
    for (let count = 1; used.has(slug); count++) slug = `${base}-${count}`
    used.add(slug)
    return slug
  }
}

const withAlignment = (tag, html, alignment) =>
  `<${tag}${alignment === undefined ? "" : ` style="text-align: ${alignment}"`}>${html}</${tag}>`

class Renderer {
  constructor(context) {
    this.context = context
    this.slug = slugger()
    this.headings = []
  }

  blocks(blocks, tight = false) {
    return blocks.map((block) => this.block(block, tight)).join("\n")
  }

  inline(text) {
    return renderInlines(text, this.context)
  }

  block(block, tight) {
    switch (block.type) {
      case "heading": {
        const { html, plain } = this.inline(block.text)
        const id = this.slug(plain)
        this.headings.push({ level: block.level, id, text: plain })
        return `<h${block.level} id="${escapeHtml(id)}">${html}</h${block.level}>`
      }
      case "paragraph": {
        const { html } = this.inline(block.text)
        return tight ? html : `<p>${html}</p>`
      }
      case "code": {
        const language = block.language === "" ? "" : ` class="language-${escapeHtml(block.language)}"`
        return `<pre><code${language}>${escapeHtml(block.text)}</code></pre>`
      }
      case "quote":
        return `<blockquote>\n${this.blocks(block.blocks)}\n</blockquote>`
      case "list":
        return this.list(block)
      case "table":
        return this.table(block)
      default:
        return "<hr>"
    }
  }

  list({ items, loose, ordered, start }) {
    const tag = ordered ? "ol" : "ul"
    const rendered = items.map(({ blocks, checked }) => {
      const inner = this.blocks(blocks, !loose)
      if (checked === undefined) return `<li>${inner}</li>`
      return `<li class="task"><input type="checkbox" disabled${checked ? " checked" : ""}> ${inner}</li>`
    })
    return `<${tag}${ordered && start !== 1 ? ` start="${start}"` : ""}>\n${rendered.join("\n")}\n</${tag}>`
  }

  table({ alignments, header, rows }) {
    const row = (cells, tag) =>
      `<tr>${cells.map((cell, index) => withAlignment(tag, this.inline(cell).html, alignments[index])).join("")}</tr>`
    const body = rows.map((cells) => row(cells, "td"))
    const tail = body.length === 0 ? "" : `\n<tbody>\n${body.join("\n")}\n</tbody>`
    return `<table>\n<thead>\n${row(header, "th")}\n</thead>${tail}\n</table>`
  }
}

/** Nests the headings up to a depth as lists of links. */
export const renderContents = (headings, depth) => {
  const listed = headings.filter(({ level }) => level <= depth)
  if (listed.length === 0) return ""
  const open = []
  let html = ""
  for (const { id, level, text } of listed) {
    while (open.length > 1 && open.at(-1) > level) {
      open.pop()
      html += "</li>\n</ul>\n"
    }
    if (open.length > 0 && open.at(-1) >= level) {
      open[open.length - 1] = level
      html += "</li>\n"
    } else {
      open.push(level)
      html += "\n<ul>\n"
    }
    html += `<li><a href="#${encodeURIComponent(id)}">${escapeHtml(text)}</a>`
  }
  return `<nav class="contents">${html}${"</li>\n</ul>\n".repeat(open.length)}</nav>`
}

/** Removes YAML front matter from the beginning of a document and returns its title, if it has one. */
const splitFrontMatter = (text) => {
  const match = /^---[ \t]*\n([^]*?)\n---[ \t]*(?:\n|$)/.exec(text)
  if (match === null || !/^[\w-]+[ \t]*:/m.test(match[1])) return { body: text, title: undefined }
  const title = /^title[ \t]*:[ \t]*(\S.*)$/m.exec(match[1])?.[1].trim().replace(/^(["'])(.*)\1$/, "$2")
  return { body: text.slice(match[0].length), title }
}

/** Converts a Markdown document; `context` has `warn` for removed targets and `rewrite` for link targets. */
export const renderMarkdown = (text, { rewrite, warn }) => {
  const { body, title } = splitFrontMatter(text)
  const { blocks, definitions } = parseBlocks(body)
  const renderer = new Renderer({ definitions, rewrite, warn })
  const html = renderer.blocks(blocks)
  return { html, headings: renderer.headings, title: title ?? renderer.headings[0]?.text }
}
