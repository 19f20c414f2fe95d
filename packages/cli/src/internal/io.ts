import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { Readable } from "node:stream"
import * as Exit from "./exit.ts"

/** The largest input that is read, in bytes: as base64 it fits into one message. */
export const maxInputBytes = 48 * 1024 * 1024

const quietMs = 3_000

const hasCode = (error: unknown, code: string): boolean =>
  error instanceof Error && "code" in error && error.code === code

/** The reader of standard output went away, as `head` does; there is nobody left to work for. */
const readerGone = new Exit.Failed({ code: 0, message: "" })

/** Keeps a reader that goes away from being a fault: writes report it, and notes need no reader. */
export const tolerateClosedOutput = (): void => {
  process.stdout.on("error", () => undefined)
  process.stderr.on("error", () => undefined)
}

/** Colour is for terminals, and never with NO_COLOR (https://no-color.org) or TERM=dumb. */
export const canColor = (stream: NodeJS.WriteStream): boolean =>
  stream.isTTY && (process.env["NO_COLOR"] ?? "") === "" && process.env["TERM"] !== "dumb"

/** Writes to standard output and waits until it is taken. */
export const write = (data: string | Uint8Array): Effect.Effect<void, Exit.Failed> =>
  Effect.callback((resume) => {
    process.stdout.write(data, (error) => {
      if (error === null || error === undefined) return resume(Effect.void)
      resume(Effect.fail(hasCode(error, "EPIPE") ? readerGone : failsToWrite("standard output")(error)))
    })
  })

/** Goes on where nobody reads any more, because the command has more to do or to tell. */
export const evenUnread = <A>(writing: Effect.Effect<A, Exit.Failed>): Effect.Effect<A | void, Exit.Failed> =>
  Effect.catchIf(writing, (error) => error === readerGone, () => Effect.void)

export const line = (text: string): Effect.Effect<void, Exit.Failed> => write(`${text}\n`)

/** Writes to standard error, for people. */
export const note = (text: string | Uint8Array): Effect.Effect<void> =>
  Effect.sync(() => void process.stderr.write(typeof text === "string" ? `${text}\n` : text))

const explain = (path: string, error: unknown): string => {
  const code = error instanceof Error && "code" in error ? error.code : undefined
  switch (code) {
    case "ENOENT":
      return `${path}: it does not exist`
    case "EISDIR":
      return `${path}: it is a folder`
    case "ENOTDIR":
    case "EEXIST":
      return `${path}: a file is where a folder should be`
    case "EACCES":
    case "EPERM":
      return `${path}: permission denied`
    case "EROFS":
      return `${path}: the file system is read-only`
    case "ENOSPC":
      return `${path}: the disk is full`
    default:
      return `${path}: ${error instanceof Error ? error.message : String(error)}`
  }
}

const collect = async (name: string, stream: Readable): Promise<Uint8Array> => {
  const chunks: Array<Uint8Array> = []
  let size = 0
  for await (const chunk of stream) {
    if (!(chunk instanceof Uint8Array)) continue
    size += chunk.byteLength
    if (size > maxInputBytes) {
      throw Exit.usage(`${name} is larger than the ${maxInputBytes} bytes that one call carries`)
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

const readAll = (name: string, open: () => Readable): Effect.Effect<Uint8Array, Exit.Failed> =>
  Effect.tryPromise({
    try: () => collect(name, open()),
    catch: (error) => error instanceof Exit.Failed ? error : Exit.usage(`cannot read ${explain(name, error)}`)
  })

/** Says that input is waited for, where somebody may have forgotten that standard input is a pipe. */
const readStdin = Effect.suspend(() => {
  const timer = setTimeout(() => {
    process.stderr.write("waiting for standard input; end it, or run with </dev/null for none\n")
  }, quietMs)
  const stop = () => clearTimeout(timer)
  process.stdin.once("readable", stop)
  return Effect.ensuring(readAll("standard input", () => process.stdin), Effect.sync(stop))
})

/** Reads a file, or standard input for `-`. */
export const read = (path: string): Effect.Effect<Uint8Array, Exit.Failed> =>
  path === "-" ? readStdin : readAll(path, () => Fs.createReadStream(path))

/** Standard input when something is piped or redirected into it; nothing on a terminal. */
export const stdin: Effect.Effect<Uint8Array | undefined, Exit.Failed> = Effect.suspend(() => {
  try {
    const stat = Fs.fstatSync(0)
    return stat.isFIFO() || stat.isFile() || stat.isSocket() ? readStdin : Effect.undefined
  } catch {
    return Effect.undefined
  }
})

const failsToWrite = (path: string) => (error: unknown) => Exit.usage(`cannot write ${explain(path, error)}`)

/** Like `mkdir` with `recursive`, which does not end where nothing can be made, such as in /proc. */
const makeFolders = async (path: string): Promise<void> => {
  const make = () =>
    Fs.promises.mkdir(path).catch(async (error: unknown) => {
      if (!hasCode(error, "EEXIST") || !(await Fs.promises.stat(path)).isDirectory()) throw error
    })
  const above = Path.dirname(path)
  await make().catch(async (error: unknown) => {
    if (!hasCode(error, "ENOENT") || above === path) throw error
    await makeFolders(above)
    await make()
  })
}

/** Makes a folder with all above it. */
export const makeFolder = (path: string): Effect.Effect<void, Exit.Failed> =>
  Effect.tryPromise({
    try: async () => {
      await makeFolders(Path.resolve(path))
      await Fs.promises.access(path, Fs.constants.W_OK)
    },
    catch: failsToWrite(path)
  })

/** Writes a file and the folders above it. */
export const save = (path: string, data: string | Uint8Array): Effect.Effect<void, Exit.Failed> =>
  Effect.tryPromise({
    try: async () => {
      await makeFolders(Path.resolve(Path.dirname(path)))
      await Fs.promises.writeFile(path, data)
    },
    catch: failsToWrite(path)
  })
