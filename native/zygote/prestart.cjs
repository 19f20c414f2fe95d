/**
 * What a Node process that is started ahead loads before the script: `node --require prestart.cjs SCRIPT LIBRARY [plain]`. Node
 * goes on as after any other start until all that the script imports first of all is there, and the script's own first
 * line is next. There the process waits for its run. With `plain` it waits before it loads the script.
 *
 * A module that looks at what only the run can tell (arguments, environment, standard input) while it is imported ends the
 * process; so does output, or input that was read. The next one is started `plain`.
 */
"use strict"
process._preload_modules.length = 0
if (process.execArgv[1] === __filename) process.execArgv.splice(0, 2)
delete require.cache[__filename]
// A worker thread loads it, too.
if (require("node:worker_threads").isMainThread) {
  const library = { exports: {} }
  process.dlopen(library, process.argv[2])
  const { endEarly, leave, open, take } = library.exports
  const { getCompileCacheDir, registerHooks } = require("node:module")
  const { getCallSites, parseArgs } = require("node:util")
  const v8 = require("node:v8")
  const plain = process.argv[3] === "plain" || registerHooks === undefined || getCallSites === undefined

  // How much code is compiled as a whole, and not when it is called first, in bytes.
  const maxEager = 256 * 1024
  const wait = Symbol.for("skillscale.wait")
  const call = `globalThis[Symbol.for("skillscale.wait")]()`

  /**
   * What nearly every script does sooner or later: done once, it is loaded and compiled. It must leave nothing that a script
   * can see: no open descriptor, as a stream would, and no tick, which would show in the traces of errors.
   */
  const rehearse = () => {
    for (const name of ["fs/promises", "path", "url", "util", "stream", "net", "tty", "readline", "crypto"]) require(name)
    const { readFileSync } = require("node:fs")
    for (let round = 0; round < 10; round++) {
      new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(__filename))
      parseArgs({ args: ["--name", "value"], options: { name: { type: "string" } } })
    }
  }

  /** Takes over what the run comes with. */
  const become = () => {
    const [args, environment] = take()
    for (const name of Object.keys(process.env)) delete process.env[name]
    for (const entry of environment) {
      const end = entry.indexOf("=")
      process.env[entry.slice(0, end)] = entry.slice(end + 1)
    }
    process.argv.splice(2, process.argv.length, ...args.slice(2))
  }

  /** Where the imports at the beginning of a script with `require` end; -1 where that cannot be told, or moves other code. */
  const endOfRequires = (source) => {
    const space = /(?:\s|\/\/.*|\/\*[^]*?\*\/)*/y
    const statement =
      /(?:(["'])use strict\1|((?:const|let|var)\s+(?:[\w$]+|\{[\w$\s,:]*\})\s*=\s*)?require\(\s*(["'])[^"'\\\n]+\3\s*\)(?:\.[\w$]+)*)(?:\s*;|[ \t]*(?=\n\s*(?!in\b|instanceof\b)[\w$]))/y
    let at = source.startsWith("#!") ? source.indexOf("\n") : 0
    let end = -1
    for (;;) {
      space.lastIndex = at
      space.test(source)
      statement.lastIndex = space.lastIndex
      const found = statement.exec(source)
      if (found === null) break
      at = statement.lastIndex
      if (found[3] !== undefined) end = at
    }
    return end !== -1 && /^[ \t]*(?:\/\/.*)?(?:\n|$)/.test(source.slice(end)) ? end : -1
  }

  /** The source of the script with the call that waits behind its imports, where it moves no other code; undefined if it has no such place. */
  const withWait = (format, source) => {
    if (format === "module") return `${Buffer.from(source)}\nimport ${JSON.stringify(`data:text/javascript,${call}`)}`
    if (format !== "commonjs" || source === null || source === undefined) return undefined
    const text = `${Buffer.from(source)}`
    const end = endOfRequires(text)
    return end === -1 ? undefined : `${text.slice(0, end)};${call};${text.slice(end)}`
  }

  /** Lets only Node itself see what the run will bring. Returns what takes that back. */
  const guard = () => {
    const before = ["argv", "env", "stdin"].map((name) => [name, Object.getOwnPropertyDescriptor(process, name)])
    for (const [name, { enumerable, value }] of before) {
      const isNode = () => /^node:internal\/(?:modules\/|util\/colors$)/.test(getCallSites(3)[2]?.scriptName)
      const get = () => (isNode() ? value : leave())
      Object.defineProperty(process, name, { configurable: true, enumerable, get, set: leave })
    }
    return () => {
      for (const [name, descriptor] of before) Object.defineProperty(process, name, descriptor)
    }
  }

  /** Waits where the script's own code begins. */
  const waitInScript = () => {
    let bytes = 0
    let isScript = true
    const load = (url, context, next) => {
      const loaded = next(url, context)
      bytes += loaded.source?.length ?? 0
      if (bytes > maxEager) v8.setFlagsFromString("--lazy")
      if (!isScript) return loaded
      isScript = false
      const source = withWait(loaded.format, loaded.source)
      if (source === undefined) globalThis[wait]()
      return source === undefined ? loaded : { ...loaded, source }
    }
    const hooks = registerHooks({ load })
    const unguard = guard()
    const value = () => {
      delete globalThis[wait]
      hooks.deregister()
      v8.setFlagsFromString("--lazy")
      unguard()
      become()
    }
    Object.defineProperty(globalThis, wait, { configurable: true, value })
    v8.setFlagsFromString("--no-lazy")
  }

  /** Node asks for `process.emit` to say that it ends. */
  const watchEnd = () => {
    const get = endEarly(require("node:events").prototype, getCompileCacheDir)
    const set = function(value) {
      Object.defineProperty(this, "emit", { configurable: true, enumerable: true, value, writable: true })
    }
    Object.defineProperty(Object.getPrototypeOf(process), "emit", { configurable: true, get, set })
  }

  open()
  rehearse()
  watchEnd()
  if (plain) become()
  else waitInScript()
}
