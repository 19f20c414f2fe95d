#!/usr/bin/env node
/** Converts Markdown files to safe HTML: to standard output, to one file, or to a folder of linked pages. */

import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { basename, dirname, join } from "node:path"
import { parseArgs } from "node:util"
import { renderPage } from "./lib/page.mjs"
import { renderContents, renderMarkdown } from "./lib/render.mjs"

const USAGE = `usage: run.mjs [options] [FILE ...]

Convert Markdown to HTML. Reads standard input when FILE is - or missing.

options:
  --out FILE        write the page to FILE instead of standard output
  --out-dir DIR     write one page per FILE into DIR; links between them point to the pages
  --fragment        only the content, without the page around it
  --toc             begin with a table of contents
  --toc-depth N     deepest heading level in it, 1 to 6 (default 3)
  --title TEXT      page title (default: front matter, first heading, file name)
  --lang TAG        language of the page (default en)
  --css FILE        style sheet to inline instead of the built-in one
  --format FORMAT   report on written files: markdown (default) or json
  --help            show this help
`

class InputError extends Error {}
class UsageError extends Error {}

const OPTIONS = {
  out: { type: "string" },
  "out-dir": { type: "string" },
  fragment: { type: "boolean", default: false },
  toc: { type: "boolean", default: false },
  "toc-depth": { type: "string", default: "3" },
  title: { type: "string" },
  lang: { type: "string", default: "en" },
  css: { type: "string" },
  format: { type: "string", default: "markdown" },
  help: { type: "boolean", short: "h", default: false }
}

const parseArguments = (argv) => {
  let parsed
  try {
    parsed = parseArgs({ args: argv, options: OPTIONS, allowPositionals: true })
  } catch (error) {
    throw new UsageError(error.message)
  }
  const { positionals, values } = parsed
  if (!/^[1-6]$/.test(values["toc-depth"])) throw new UsageError(`--toc-depth takes 1 to 6, got ${values["toc-depth"]}`)
  if (!["markdown", "json"].includes(values.format)) {
    throw new UsageError(`--format takes markdown or json, got ${values.format}`)
  }
  if (!/^[A-Za-z0-9-]{1,35}$/.test(values.lang)) {
    throw new UsageError(`--lang takes a language tag such as en, got ${values.lang}`)
  }
  const files = positionals.length === 0 ? ["-"] : positionals
  if (values.out !== undefined && values["out-dir"] !== undefined) {
    throw new UsageError("--out and --out-dir exclude each other")
  }
  if (files.length > 1 && values["out-dir"] === undefined) throw new UsageError("several files need --out-dir")
  return { ...values, files }
}

const explain = (error) => (error instanceof Error && "code" in error ? String(error.code) : String(error))

const readBytes = (path, name) => {
  try {
    return readFileSync(path === "-" ? 0 : path)
  } catch (error) {
    if (path === "-" && (explain(error) === "EAGAIN" || explain(error) === "EOF")) return Buffer.alloc(0)
    throw new InputError(`cannot read ${name}: ${explain(error)}; check the path`)
  }
}

const readText = (path, { allowEmpty = false } = {}) => {
  const name = path === "-" ? "standard input" : path
  const bytes = readBytes(path, name)
  const zero = bytes.indexOf(0)
  if (zero >= 0) throw new InputError(`${name} has a NUL byte at offset ${zero}, so it is not Markdown text`)
  let text
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes)
  } catch {
    throw new InputError(`${name} is not valid UTF-8; convert it to UTF-8 first`)
  }
  if (!allowEmpty && text.trim() === "") {
    throw new InputError(`${name} is empty; pass Markdown on standard input or as FILE`)
  }
  return text.replace(/\r\n?/g, "\n")
}

const pageName = (path) =>
  `${path === "-" ? "stdin" : basename(path).replace(/\.(?:md|markdown|mdown|txt)$/i, "")}.html`

/** Points links to other converted documents at their pages. */
const linkRewriter = (path, pages) => (target) => {
  const match = /^([^?#:]+)([?#].*)?$/s.exec(target)
  if (match === null) return target
  let linked
  try {
    linked = join(dirname(path), decodeURIComponent(match[1]))
  } catch {
    return target
  }
  const page = pages.get(linked)
  return page === undefined ? target : encodeURIComponent(page) + (match[2] ?? "")
}

const convert = (path, options, css, rewrite) => {
  const warnings = []
  const { headings, html, title } = renderMarkdown(readText(path), {
    rewrite,
    warn: (message) => warnings.push(message)
  })
  const contents = options.toc ? renderContents(headings, Number(options["toc-depth"])) : ""
  const name = options.title ?? title ?? (path === "-" ? "Document" : basename(path))
  const output = options.fragment
    ? `${contents === "" ? "" : `${contents}\n`}${html}\n`
    : renderPage({ contents, css, html, lang: options.lang, title: name })
  for (const warning of warnings) {
    process.stderr.write(`markdown-to-html: ${path === "-" ? "standard input" : path}: ${warning}\n`)
  }
  return { output, title: name, headings: headings.length, warnings: warnings.length }
}

const writePage = (file, output) => {
  try {
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, output)
  } catch (error) {
    throw new InputError(`cannot write ${file}: ${explain(error)}; choose another path`)
  }
}

const report = (pages, format) => {
  if (format === "json") return `${JSON.stringify({ pages }, null, 2)}\n`
  return pages.map(({ bytes, file, headings, warnings }) =>
    `- Wrote \`${file}\`: ${bytes} bytes, ${headings} headings, ${warnings} warnings.\n`
  ).join("")
}

const main = (argv) => {
  const options = parseArguments(argv)
  if (options.help) return process.stdout.write(USAGE)
  const css = options.css === undefined ? undefined : readText(options.css, { allowEmpty: true })
  const directory = options["out-dir"]
  if (directory === undefined && options.out === undefined) {
    return process.stdout.write(convert(options.files[0], options, css, (target) => target).output)
  }
  const targets = new Map()
  const names = new Set()
  for (const path of options.files) {
    const name = pageName(path)
    if (names.has(name.toLowerCase())) throw new UsageError(`two files would become ${name}; rename one of them`)
    names.add(name.toLowerCase())
    targets.set(join(path), name)
  }
  const linked = directory === undefined ? new Map() : targets
  const converted = options.files.map((path) => ({ path, ...convert(path, options, css, linkRewriter(path, linked)) }))
  const pages = converted.map(({ headings, output, path, title, warnings }) => {
    const file = directory === undefined ? options.out : `${directory.replace(/\/+$/, "")}/${targets.get(join(path))}`
    writePage(file, output)
    return { file, title, bytes: Buffer.byteLength(output), headings, warnings }
  })
  process.stdout.write(report(pages, options.format))
}

process.stdout.on("error", () => process.exit(1))

try {
  main(process.argv.slice(2))
} catch (error) {
  if (error instanceof UsageError) {
    process.stderr.write(`markdown-to-html: ${error.message}; see --help\n`)
    process.exitCode = 2
  } else if (error instanceof InputError) {
    process.stderr.write(`markdown-to-html: ${error.message}\n`)
    process.exitCode = 1
  } else throw error
}
