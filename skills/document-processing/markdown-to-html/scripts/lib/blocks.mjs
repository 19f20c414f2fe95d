/** Block structure of Markdown: parses lines into a tree of blocks, collecting link definitions on the way. */

import { normalizeLabel, readDestination, readTitle } from "./inlines.mjs"
import { unescapeText } from "./html.mjs"

const DEEPEST = 60
const HEADING = /^ {0,3}(#{1,6})(?=[ \t]|$)(.*)$/
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/
const FENCE = /^( {0,3})(`{3,}|~{3,})(.*)$/
const QUOTE = /^ {0,3}> ?/
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?:( +)(.*)|)$/
const SETEXT = /^ {0,3}(=+|-+)[ \t]*$/
const DELIMITER_ROW = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/
const DEFINITION = /^ {0,3}\[((?:[^[\]\\]|\\.){1,999})\]:[ \t]*(\S.*)$/

const isBlank = (line) => line.trim() === ""

/** Expands the tabs in a line's indentation to the next multiple of four columns. */
export const expandIndent = (line) => {
  let column = 0
  let index = 0
  while (line[index] === " " || line[index] === "\t") {
    column += line[index] === "\t" ? 4 - (column % 4) : 1
    index++
  }
  return " ".repeat(column) + line.slice(index)
}

const indentOf = (line) => line.length - line.trimStart().length

export const splitRow = (line) => {
  const cells = []
  let cell = ""
  const row = line.trim().replace(/^\|/, "")
  for (let index = 0; index < row.length; index++) {
    if (row[index] === "\\" && row[index + 1] === "|") cell += row[++index]
    else if (row[index] === "|") {
      cells.push(cell.trim())
      cell = ""
    } else cell += row[index]
  }
  if (cell.trim() !== "" || !row.endsWith("|")) cells.push(cell.trim())
  return cells
}

const alignmentOf = (cell) =>
  cell.startsWith(":") ? (cell.endsWith(":") ? "center" : "left") : cell.endsWith(":") ? "right" : undefined

const isFence = (line) => {
  const match = FENCE.exec(line)
  return match !== null && !(match[2][0] === "`" && match[3].includes("`")) ? match : null
}

const startsBlock = (line) =>
  HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || isFence(line) !== null ||
  /^ {0,3}(?:[-*+]|1[.)]) +\S/.test(line)

class Blocks {
  constructor(definitions) {
    this.definitions = definitions
  }

  parse(lines, depth) {
    const blocks = []
    let at = 0
    while (at < lines.length) {
      const line = lines[at]
      if (isBlank(line)) {
        at++
        continue
      }
      const step = depth < DEEPEST ? this.container(lines, at, depth) : undefined
      const [block, next] = step ?? this.leaf(lines, at)
      if (block !== undefined) blocks.push(block)
      at = next
    }
    return blocks
  }

  container(lines, at, depth) {
    if (indentOf(lines[at]) >= 4) return undefined
    if (QUOTE.test(lines[at])) return this.quote(lines, at, depth)
    if (ITEM.test(lines[at]) && !RULE.test(lines[at])) return this.list(lines, at, depth)
    return undefined
  }

  leaf(lines, at) {
    const line = lines[at]
    if (indentOf(line) >= 4) return this.indentedCode(lines, at)
    const heading = HEADING.exec(line)
    if (heading !== null) {
      const text = heading[2].trim().replace(/(?:^|[ \t])#+$/, "").trim()
      return [{ type: "heading", level: heading[1].length, text }, at + 1]
    }
    const fence = isFence(line)
    if (fence !== null) return this.fencedCode(lines, at, fence)
    if (RULE.test(line)) return [{ type: "rule" }, at + 1]
    return this.table(lines, at) ?? this.paragraph(lines, at)
  }

  indentedCode(lines, at) {
    const code = []
    let next = at
    while (next < lines.length && (isBlank(lines[next]) || indentOf(lines[next]) >= 4)) {
      code.push(lines[next++].slice(4))
    }
    while (isBlank(code.at(-1))) code.pop()
    return [{ type: "code", language: "", text: code.join("\n") + "\n" }, next]
  }

  fencedCode(lines, at, [, indent, mark, info]) {
    const code = []
    let next = at + 1
    const isEnd = (line) => {
      const match = /^ {0,3}(`{3,}|~{3,})[ \t]*$/.exec(line)
      return match !== null && match[1][0] === mark[0] && match[1].length >= mark.length
    }
    while (next < lines.length && !isEnd(lines[next])) {
      const line = lines[next++]
      code.push(line.slice(Math.min(indent.length, indentOf(line))))
    }
    const text = code.length === 0 ? "" : code.join("\n") + "\n"
    return [{ type: "code", language: unescapeText(info.trim().split(/\s/, 1)[0]), text }, next + 1]
  }

  quote(lines, at, depth) {
    const inner = []
    let next = at
    let lazy = false
    for (; next < lines.length; next++) {
      const line = lines[next]
      if (QUOTE.test(line)) {
        const content = line.replace(QUOTE, "")
        inner.push(expandIndent(content))
        lazy = !isBlank(content) && isFence(content) === null && indentOf(content) < 4
      } else if (lazy && !isBlank(line) && !startsBlock(line)) inner.push(line)
      else break
    }
    return [{ type: "quote", blocks: this.parse(inner, depth + 1) }, next]
  }

  list(lines, at, depth) {
    const [, , firstMarker] = ITEM.exec(lines[at])
    const kind = firstMarker.at(-1)
    const items = []
    let next = at
    let loose = false
    while (next < lines.length) {
      const match = ITEM.exec(lines[next])
      if (match === null || match[2].at(-1) !== kind || (RULE.test(lines[next]) && items.length > 0)) break
      const item = this.item(lines, next, match)
      items.push(item.lines)
      next = item.next
      let gap = next
      while (gap < lines.length && isBlank(lines[gap])) gap++
      const follows = gap < lines.length && ITEM.exec(lines[gap])?.[2].at(-1) === kind && !RULE.test(lines[gap])
      loose ||= item.loose || (follows && gap > next)
      if (!follows) break
      next = gap
    }
    const ordered = /\d/.test(firstMarker)
    return [{
      type: "list",
      ordered,
      start: ordered ? Number.parseInt(firstMarker, 10) : 1,
      loose,
      items: items.map((item) => {
        const task = /^\[([ xX])\] +(?=\S)/.exec(item[0] ?? "")
        if (task !== null) item[0] = item[0].slice(task[0].length)
        return { checked: task === null ? undefined : task[1] !== " ", blocks: this.parse(item, depth + 1) }
      })
    }, next]
  }

  /** Collects the lines of one list item, without their indentation. */
  item(lines, at, [, indent, marker, space, content]) {
    const spaces = space === undefined || content === "" ? 1 : space.length > 4 ? 1 : space.length
    const width = indent.length + marker.length + spaces
    const inner = [content === undefined ? "" : expandIndent(" ".repeat(space.length - spaces) + content)]
    let next = at + 1
    let loose = false
    let fence = isFence(inner[0])
    for (; next < lines.length; next++) {
      const line = lines[next]
      if (isBlank(line)) {
        let ahead = next
        while (ahead < lines.length && isBlank(lines[ahead])) ahead++
        if (ahead >= lines.length || indentOf(lines[ahead]) < width || (inner.length === 1 && inner[0] === "")) break
        // Blank lines inside a nested list or a fence do not separate the blocks of this item.
        loose ||= fence === null && indentOf(lines[ahead]) === width && !ITEM.test(lines[ahead].slice(width))
        for (; next < ahead; next++) inner.push("")
        next--
      } else if (indentOf(line) >= width) {
        const stripped = line.slice(width)
        const mark = isFence(stripped)
        if (fence === null) fence = mark
        else if (
          mark !== null && mark[2][0] === fence[2][0] && mark[2].length >= fence[2].length && mark[3].trim() === ""
        ) fence = null
        inner.push(stripped)
      } else if (fence === null && !isBlank(inner.at(-1)) && !startsBlock(line) && !ITEM.test(line)) {
        inner.push(line.trimStart())
      } else break
    }
    return { lines: inner, next, loose }
  }

  table(lines, at) {
    const delimiter = lines[at + 1]
    if (delimiter === undefined || !lines[at].includes("|") || !DELIMITER_ROW.test(delimiter)) return undefined
    const header = splitRow(lines[at])
    const alignments = splitRow(delimiter).map(alignmentOf)
    if (header.length !== alignments.length) return undefined
    const rows = []
    let next = at + 2
    while (next < lines.length && !isBlank(lines[next]) && !startsBlock(lines[next])) {
      const row = splitRow(lines[next++]).slice(0, header.length)
      while (row.length < header.length) row.push("")
      rows.push(row)
    }
    return [{ type: "table", header, alignments, rows }, next]
  }

  paragraph(lines, at) {
    const text = []
    let next = at
    while (next < lines.length && !isBlank(lines[next])) {
      const line = lines[next]
      if (text.length > 0) {
        const underline = SETEXT.exec(line)
        if (underline !== null) {
          return [{ type: "heading", level: underline[1][0] === "=" ? 1 : 2, text: text.join("\n").trim() }, next + 1]
        }
        if (indentOf(line) < 4 && (startsBlock(line) || this.table(lines, next) !== undefined)) break
      } else if (this.define(line)) {
        next++
        continue
      }
      text.push(line.trimStart())
      next++
    }
    return [text.length === 0 ? undefined : { type: "paragraph", text: text.join("\n") }, next]
  }

  define(line) {
    const match = DEFINITION.exec(line)
    if (match === null || match[1].trim() === "") return false
    const destination = readDestination(match[2], 0)
    if (destination === undefined) return false
    const rest = match[2].slice(destination.end)
    const found = /^[ \t]+\S/.test(rest) ? readTitle(rest.trim(), 0) : undefined
    if (rest.trim() !== "" && (found === undefined || found.end !== rest.trim().length)) return false
    const label = normalizeLabel(match[1])
    if (!this.definitions.has(label)) {
      this.definitions.set(label, { target: unescapeText(destination.target), title: found?.title })
    }
    return true
  }
}

/** Parses Markdown into blocks and the link definitions it contains. */
export const parseBlocks = (text) => {
  const definitions = new Map()
  return { blocks: new Blocks(definitions).parse(linesOf(text), 0), definitions }
}

/** Splits the text and expands indentation, except inside fences of the top level, whose tabs belong to the code. */
const linesOf = (text) => {
  let fence = null
  return text.replace(/\n$/, "").split("\n").map((line) => {
    const mark = isFence(line)
    if (fence === null) {
      fence = mark
      return expandIndent(line)
    }
    if (mark !== null && mark[2][0] === fence[2][0] && mark[2].length >= fence[2].length && mark[3].trim() === "") {
      fence = null
    }
    return line
  })
}
