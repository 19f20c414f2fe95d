/**
 * What a Node process that is started ahead loads before the script: `node --require prestart.cjs SCRIPT LIBRARY [plain]`. Node
 * goes on as after any other start until all that the script imports first of all is there, and the script's own first
 * line is next. There the process waits for its run. With `plain` it waits before it loads the script.
 *
 * A module that looks at what only the run can tell (arguments, environment, a report of them, standard input) while it is
 * imported ends the process; so does output, input that was read, or a timer. The next one is started `plain`.
 */
"use strict"
process._preload_modules.length = 0
if (process.execArgv[1] === __filename) process.execArgv.splice(0, 2)
delete require.cache[__filename]
// A worker thread loads it, too.
if (require("node:worker_threads").isMainThread) {
  const library = { exports: {} }
  process.dlopen(library, process.argv[2])
  const { endEarly, isLoader, leave, open, take } = library.exports
  const { getCompileCacheDir, registerHooks } = require("node:module")
  const { getCallSites, parseArgs } = require("node:util")
  const plain = process.argv[3] === "plain" || registerHooks === undefined || getCallSites === undefined

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

  const { defineProperty, keys } = Object
  const { parse, stringify } = JSON
  const { apply } = Reflect
  const sort = Function.prototype.call.bind(Array.prototype.sort)
  const startsWith = Function.prototype.call.bind(String.prototype.startsWith)
  const includes = Function.prototype.call.bind(String.prototype.includes)

  /** Returns what empties the space for young objects, so that a short run does not have to. */
  const collector = () => {
    const { setFlagsFromString } = require("node:v8")
    setFlagsFromString("--expose-gc")
    const gc = require("node:vm").runInNewContext("gc")
    setFlagsFromString("--no-expose-gc")
    return () => {
      for (let round = 0; round < 2; round++) gc({ type: "minor" })
    }
  }
  const collect = collector()

  /**
   * Returns what compiles what was imported so far: functions are compiled when they are first called, which would be in the
   * run. A debugger that asks where it could stop in a file has them compiled one by one, exactly as a call has; the flags
   * that compile more at once give functions other names. Up to 512 Ki characters, the shortest files first.
   */
  const compiler = () => {
    // Not the module, which would be seen to be loaded.
    const { Connection } = process.features.inspector ? process.binding("inspector") : {}
    if (typeof Connection !== "function") return () => {}
    const scripts = []
    const hear = (message) => {
      const { method, params } = parse(message)
      if (method === "Debugger.scriptParsed" && startsWith(params.url, "file:")) scripts[scripts.length] = params
    }
    const connection = new Connection(hear)
    const { disconnect, dispatch } = connection
    const post = (method, params) => apply(dispatch, connection, [stringify({ id: 1, method, params })])
    return () => {
      post("Debugger.enable")
      sort(scripts, (one, other) => one.length - other.length)
      let left = 512 * 1024
      for (let index = 0; index < scripts.length && (left -= scripts[index].length) >= 0; index++) {
        const { endColumn, endLine, scriptId } = scripts[index]
        const start = { scriptId, lineNumber: 0, columnNumber: 0 }
        const end = { scriptId, lineNumber: endLine, columnNumber: endColumn }
        post("Debugger.getPossibleBreakpoints", { start, end })
      }
      post("Debugger.disable")
      apply(disconnect, connection, [])
    }
  }

  /** Knows the files that were loaded, but those of packages, and tells whether each is still as it was; 256 of them at most. */
  const loadedFiles = () => {
    const { statSync } = require("node:fs")
    const { fileURLToPath } = require("node:url")
    const about = (path) => {
      const { mtimeNs, size } = statSync(path, { bigint: true })
      return `${mtimeNs} ${size}`
    }
    const paths = []
    const before = []
    return {
      add: (url) => {
        if (paths.length === 256 || !startsWith(url, "file:") || includes(url, "/node_modules/")) return
        const path = fileURLToPath(url)
        before[paths.length] = about(path)
        paths[paths.length] = path
      },
      areCurrent: () => {
        for (let index = 0; index < paths.length; index++) if (about(paths[index]) !== before[index]) return false
        return true
      }
    }
  }

  /** Takes over what the run comes with. It uses nothing that a module could have changed. */
  const become = (compile, areCurrent) => {
    compile()
    collect()
    const taken = take(areCurrent)
    const args = taken[0]
    const names = taken[1]
    const values = taken[2]
    const before = keys(process.env)
    for (let index = 0; index < before.length; index++) delete process.env[before[index]]
    for (let index = 0; index < names.length; index++) process.env[names[index]] = values[index]
    process.argv.length = 2
    for (let index = 2; index < args.length; index++) process.argv[index] = args[index]
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
    const names = ["argv", "env", "report", "stdin"]
    const before = names.map((name) => Object.getOwnPropertyDescriptor(process, name))
    for (let index = 0; index < names.length; index++) {
      const { enumerable, value } = before[index]
      const get = () => (isLoader(getCallSites(2)[1]?.scriptName) ? value : leave())
      defineProperty(process, names[index], { configurable: true, enumerable, get, set: leave })
    }
    return () => {
      for (let index = 0; index < names.length; index++) defineProperty(process, names[index], before[index])
    }
  }

  /** Waits where the script's own code begins. */
  const waitInScript = () => {
    let isScript = true
    const { add, areCurrent } = loadedFiles()
    const load = (url, context, next) => {
      add(url)
      const loaded = next(url, context)
      if (!isScript) return loaded
      isScript = false
      const source = withWait(loaded.format, loaded.source)
      if (source === undefined) globalThis[wait]()
      return source === undefined ? loaded : { ...loaded, source }
    }
    const compile = compiler()
    const hooks = registerHooks({ load })
    const unguard = guard()
    const value = () => {
      delete globalThis[wait]
      hooks.deregister()
      unguard()
      become(compile, areCurrent)
    }
    Object.defineProperty(globalThis, wait, { configurable: true, value })
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
  if (plain) become(() => {}, () => true)
  else waitInScript()
}
