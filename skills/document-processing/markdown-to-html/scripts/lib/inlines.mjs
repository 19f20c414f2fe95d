/**
 * Inline Markdown. Text becomes a flat list of nodes; emphasis and links are resolved with the delimiter stack of CommonMark,
 * so that the work stays close to linear.
 */

import { attributeUrl, escapeHtml, isSafeImage, isSafeLink, readReference, unescapeText } from "./html.mjs"

const PUNCTUATION = /[\p{P}\p{S}]/u
const WHITESPACE = /\s/u
const SPECIAL = /[\\`*_~[\]!&<\n:]/
const AUTOLINK = /^<([A-Za-z][A-Za-z0-9+.-]{1,31}:[^\s<>]*)>/
const MAIL_LINK = /^<([A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)>/
const BARE_LINK = /^:\/\/[^\s<>]+/
const TITLE = /^(?:"((?:[^"\\]|\\[^])*)"|'((?:[^'\\]|\\[^])*)'|\(((?:[^()\\]|\\[^])*)\))/

export const normalizeLabel = (label) => label.trim().replace(/\s+/g, " ").toLowerCase().toUpperCase()

/** Reads a link target at `start`; returns the raw target and where it ends. */
export const readDestination = (text, start) => {
  if (text[start] === "<") {
    for (let index = start + 1; index < text.length; index++) {
      const character = text[index]
      if (character === ">") return { target: text.slice(start + 1, index), end: index + 1 }
      if (character === "<" || character === "\n") return undefined
      if (character === "\\") index++
    }
    return undefined
  }
  let depth = 0
  let index = start
  for (; index < text.length; index++) {
    const character = text[index]
    if (character === "\\" && index + 1 < text.length && !WHITESPACE.test(text[index + 1])) index++
    else if (character === "(") {
      if (++depth > 32) return undefined
    } else if (character === ")") {
      if (depth === 0) break
      depth--
    } else if (character <= " ") break
  }
  return depth === 0 ? { target: text.slice(start, index), end: index } : undefined
}

const skipSpace = (text, start) => {
  let index = start
  while (index < text.length && WHITESPACE.test(text[index])) index++
  return index
}

/** Reads an optional title at `start`, which must follow white space. */
export const readTitle = (text, start) => {
  const match = TITLE.exec(text.slice(start, start + 2000))
  if (match === null) return undefined
  return { title: unescapeText(match[1] ?? match[2] ?? match[3]), end: start + match[0].length }
}

const readInlineTarget = (text, start) => {
  const destination = readDestination(text, skipSpace(text, start))
  if (destination === undefined) return undefined
  let index = skipSpace(text, destination.end)
  let title
  if (index > destination.end && text[index] !== ")") {
    const found = readTitle(text, index)
    if (found === undefined) return undefined
    title = found.title
    index = skipSpace(text, found.end)
  }
  return text[index] === ")" ? { target: unescapeText(destination.target), title, end: index + 1 } : undefined
}

const isPunctuation = (character) => character !== "" && PUNCTUATION.test(character)
const isBlank = (character) => character === "" || WHITESPACE.test(character)

const flanking = (text, start, end, mark) => {
  const before = start === 0 ? "" : text[start - 1]
  const after = end >= text.length ? "" : text[end]
  const left = !isBlank(after) && (!isPunctuation(after) || isBlank(before) || isPunctuation(before))
  const right = !isBlank(before) && (!isPunctuation(before) || isBlank(after) || isPunctuation(after))
  if (mark !== "_") return { opens: left, closes: right }
  return { opens: left && (!right || isPunctuation(before)), closes: right && (!left || isPunctuation(after)) }
}

class Inlines {
  constructor(text, context) {
    this.text = text
    this.context = context
    this.nodes = []
    this.delimiters = []
    this.brackets = []
    this.position = 0
    this.ticks = undefined
  }

  push(html, plain = "") {
    this.nodes.push({ html, plain })
  }

  literal(text) {
    this.push(escapeHtml(text), text)
  }

  parse() {
    const { text } = this
    while (this.position < text.length) {
      if (SPECIAL.test(text[this.position])) this.special(text[this.position])
      else this.plainRun()
    }
    this.emphasize(0)
    return {
      html: this.nodes.map((node) => node.html).join("").replace(/(?<![ \t])[ \t]+(?=\n)/g, "").trim(),
      plain: this.nodes.map((node) => node.plain).join("").trim()
    }
  }

  plainRun() {
    const start = this.position
    while (this.position < this.text.length && !SPECIAL.test(this.text[this.position])) this.position++
    const run = this.text.slice(start, this.position)
    if (this.text[this.position] === "\n") {
      const trimmed = run.replace(/(?<! ) +$/, "")
      this.literal(trimmed)
      if (run.length - trimmed.length >= 2) this.push("<br>")
    } else this.literal(run)
  }

  special(character) {
    const { text, position } = this
    switch (character) {
      case "\n":
        this.position++
        return this.push("\n", " ")
      case "\\":
        return this.escape()
      case "`":
        return this.code()
      case "*":
      case "_":
      case "~":
        return this.delimiter(character)
      case "!":
        if (text[position + 1] === "[") return this.open(true)
        break
      case "[":
        return this.open(false)
      case "]":
        return this.close()
      case "<":
        return this.angle()
      case ":":
        if (this.bareLink()) return
        break
      case "&": {
        const reference = readReference(text.slice(position, position + 40))
        if (reference !== undefined) {
          this.position += reference.raw.length
          return this.literal(reference.value)
        }
      }
    }
    this.position++
    this.literal(character)
  }

  escape() {
    const next = this.text[this.position + 1] ?? ""
    if (next === "\n") {
      this.position += 1
      return this.push("<br>")
    }
    if (/[!-/:-@[-`{-~]/.test(next)) {
      this.position += 2
      return this.literal(next)
    }
    this.position++
    this.literal("\\")
  }

  /** Finds where each length of backtick run occurs, once, so that unclosed runs stay cheap. */
  tickRuns() {
    if (this.ticks === undefined) {
      this.ticks = new Map()
      for (const match of this.text.matchAll(/`+/g)) {
        const runs = this.ticks.get(match[0].length) ?? []
        runs.push(match.index)
        this.ticks.set(match[0].length, runs)
      }
    }
    return this.ticks
  }

  code() {
    const start = this.position
    let end = start
    while (this.text[end] === "`") end++
    const runs = this.tickRuns().get(end - start) ?? []
    while (runs.length > 0 && runs[0] < end) runs.shift()
    if (runs.length === 0) {
      this.position = end
      return this.literal(this.text.slice(start, end))
    }
    let content = this.text.slice(end, runs[0]).replaceAll("\n", " ")
    if (content.startsWith(" ") && content.endsWith(" ") && content.trim() !== "") content = content.slice(1, -1)
    this.position = runs[0] + (end - start)
    this.push(`<code>${escapeHtml(content)}</code>`, content)
  }

  delimiter(mark) {
    const start = this.position
    while (this.text[this.position] === mark) this.position++
    const length = this.position - start
    const run = this.text.slice(start, this.position)
    this.literal(run)
    if (mark === "~" && length !== 2) return
    this.delimiters.push({
      mark,
      length,
      original: length,
      node: this.nodes.length - 1,
      ...flanking(this.text, start, this.position, mark)
    })
  }

  open(image) {
    this.position += image ? 2 : 1
    this.literal(image ? "![" : "[")
    this.brackets.push({
      image,
      node: this.nodes.length - 1,
      delimiters: this.delimiters.length,
      start: this.position,
      active: true
    })
  }

  close() {
    const { position } = this
    const opener = this.brackets.pop()
    this.position++
    if (opener === undefined || !opener.active) return this.literal("]")
    const link = this.target(opener, position)
    if (link === undefined) return this.literal("]")
    this.position = link.end
    this.emphasize(opener.delimiters)
    const inner = this.nodes.splice(opener.node).slice(1)
    const html = inner.map((node) => node.html).join("")
    const plain = inner.map((node) => node.plain).join("")
    this.push(opener.image ? this.image(link, plain) : this.link(link, html), plain)
    if (!opener.image) this.deactivateLinks()
  }

  /** A link holds no link: the openers around it, all above the first inactive one, lose their meaning. */
  deactivateLinks() {
    for (let index = this.brackets.length - 1; index >= 0; index--) {
      const bracket = this.brackets[index]
      if (bracket.image) continue
      if (!bracket.active) return
      bracket.active = false
    }
  }

  target(opener, position) {
    const { text } = this
    if (text[position + 1] === "(") {
      const inline = readInlineTarget(text, position + 2)
      if (inline !== undefined) return inline
    }
    const explicit = /^\[((?:[^[\]\\]|\\.){0,999})\]/s.exec(text.slice(position + 1, position + 1002))
    const label = explicit === null || explicit[1] === "" ? text.slice(opener.start, position) : explicit[1]
    const definition = label.length < 1000 ? this.context.definitions.get(normalizeLabel(label)) : undefined
    if (definition === undefined) return undefined
    return { ...definition, end: position + 1 + (explicit === null ? 0 : explicit[0].length) }
  }

  link({ target, title }, html) {
    if (!isSafeLink(target)) {
      this.context.warn(`removed the link target ${JSON.stringify(target)}: its scheme is not allowed`)
      return `<span class="blocked">${html}</span>`
    }
    return `<a href="${attributeUrl(this.context.rewrite(target))}"${titleAttribute(title)}>${html}</a>`
  }

  image({ target, title }, plain) {
    if (!isSafeImage(target)) {
      this.context.warn(`removed the image source ${JSON.stringify(target)}: its scheme is not allowed`)
      return `<span class="blocked">${escapeHtml(plain)}</span>`
    }
    return `<img src="${attributeUrl(target)}" alt="${escapeHtml(plain)}"${titleAttribute(title)}>`
  }

  angle() {
    const rest = this.text.slice(this.position, this.position + 2100)
    const match = AUTOLINK.exec(rest) ?? MAIL_LINK.exec(rest)
    if (match === null) {
      this.position++
      return this.literal("<")
    }
    this.position += match[0].length
    const target = match[1].includes(":") ? match[1] : `mailto:${match[1]}`
    this.push(this.link({ target, title: undefined }, escapeHtml(match[1])), match[1])
  }

  /** Turns a bare `http://…` or `https://…` into a link; the scheme is already in the last node. */
  bareLink() {
    const last = this.nodes.at(-1)
    const scheme = /(?:^|[^\p{L}\p{N}])(https?)$/u.exec(last?.plain ?? "")?.[1]
    if (scheme === undefined || this.brackets.some((bracket) => bracket.active && !bracket.image)) return false
    const match = BARE_LINK.exec(this.text.slice(this.position, this.position + 2100))
    if (match === null) return false
    let tail = match[0].replace(/[*_~`]+$/, "")
    for (;;) {
      const shorter = tail.replace(/[?!.,:;*_~'"]+$/, "")
      const unbalanced = shorter.endsWith(")") && shorter.split(")").length > shorter.split("(").length
      if (shorter === tail && !unbalanced) break
      tail = unbalanced ? shorter.slice(0, -1) : shorter
    }
    if (tail.length < 4) return false
    last.plain = last.plain.slice(0, -scheme.length)
    last.html = escapeHtml(last.plain)
    this.position += tail.length
    this.push(this.link({ target: scheme + tail, title: undefined }, escapeHtml(scheme + tail)), scheme + tail)
    return true
  }

  /** Pairs the delimiters above `bottom` and removes them from the stack. */
  emphasize(bottom) {
    const stack = this.delimiters.splice(bottom)
    const floors = new Map()
    for (let index = 0; index < stack.length; index++) {
      const closer = stack[index]
      while (closer.closes && closer.length > 0) {
        const key = `${closer.mark}${closer.opens}${closer.original % 3}`
        const floor = floors.get(key) ?? 0
        let found = index - 1
        while (found >= floor && !pairs(stack[found], closer)) found--
        if (found < floor) {
          floors.set(key, index)
          break
        }
        this.wrap(stack[found], closer)
        for (let between = found + 1; between < index; between++) stack[between].length = 0
      }
    }
  }

  wrap(opener, closer) {
    const strong = opener.length >= 2 && closer.length >= 2
    const tag = closer.mark === "~" ? "del" : strong ? "strong" : "em"
    const size = strong ? 2 : 1
    const before = this.nodes[opener.node]
    const after = this.nodes[closer.node]
    opener.length -= size
    closer.length -= size
    opener.tail = `<${tag}>${opener.tail ?? ""}`
    closer.head = `${closer.head ?? ""}</${tag}>`
    before.html = `${opener.head ?? ""}${opener.mark.repeat(opener.length)}${opener.tail}`
    before.plain = opener.mark.repeat(opener.length)
    after.html = `${closer.head}${closer.mark.repeat(closer.length)}${closer.tail ?? ""}`
    after.plain = closer.mark.repeat(closer.length)
  }
}

const titleAttribute = (title) => (title === undefined ? "" : ` title="${escapeHtml(title)}"`)

/** The rule of three of CommonMark keeps `**a*b**` from pairing across. */
const pairs = (opener, closer) =>
  opener.opens && opener.length > 0 && opener.mark === closer.mark &&
  !((opener.closes || closer.opens) && (opener.original + closer.original) % 3 === 0 &&
    (opener.original % 3 !== 0 || closer.original % 3 !== 0))

/** Renders inline Markdown; returns the HTML and the text without markup. */
export const renderInlines = (text, context) => new Inlines(text, context).parse()
