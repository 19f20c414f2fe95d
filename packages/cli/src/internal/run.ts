import type * as SkillClient from "@skillscale/client/SkillClient"
import * as Protocol from "@skillscale/core/Protocol"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as SchemaParser from "effect/SchemaParser"
import * as Stream from "effect/Stream"
import { isUtf8 } from "node:buffer"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Connection from "./connection.ts"
import * as Exit from "./exit.ts"
import * as Io from "./io.ts"

export interface Input extends Connection.Options {
  readonly skill: string
  readonly script: string
  readonly args: ReadonlyArray<string>
  readonly files: ReadonlyArray<string>
  readonly out: Option.Option<string>
  readonly stdin: Option.Option<string>
  readonly topic: Option.Option<string>
  readonly json: boolean
}

const artifactWire = SchemaParser.encodeSync(Protocol.Artifact)

const isRelativePath = (path: string) =>
  path !== "" && path.split("/").every((part) => part !== "" && part !== "." && part !== "..")

const readFiles = Effect.fnUntraced(function*(specs: ReadonlyArray<string>) {
  const files = new Map<string, Uint8Array>()
  let size = 0
  for (const spec of specs) {
    // A file whose own name has the sign in it is meant as it stands.
    const split = Fs.existsSync(spec) ? -1 : spec.indexOf("=")
    const local = split === -1 ? spec : spec.slice(0, split)
    const name = split === -1 ? Path.basename(local) : spec.slice(split + 1)
    if (local === "" || !isRelativePath(name)) {
      return yield* Exit.usage(`--file ${spec}: expected LOCAL or LOCAL=NAME with a relative NAME without . or ..`)
    }
    if (files.has(name)) return yield* Exit.usage(`--file ${spec}: ${name} is sent twice; name one LOCAL=NAME`)
    const data = yield* Io.read(local)
    size += data.byteLength
    if (size > Io.maxInputBytes) {
      return yield* Exit.usage(`--file ${spec}: the files exceed the ${Io.maxInputBytes} bytes that one call carries`)
    }
    files.set(name, data)
  }
  return Object.fromEntries(files)
})

const saveArtifacts = Effect.fnUntraced(function*(out: string, artifacts: ReadonlyArray<Protocol.Artifact>) {
  for (const artifact of artifacts) {
    if (!isRelativePath(artifact.path)) {
      return yield* Exit.usage(
        `the server sent a file named ${JSON.stringify(artifact.path)}, which is not below --out`
      )
    }
    const path = Path.join(out, artifact.path)
    yield* Io.save(path, artifact.data)
    yield* Io.note(`wrote ${Exit.oneLine(path)} (${artifact.size} bytes)`)
  }
})

type Done = Extract<SkillClient.StreamEvent, { readonly _tag: "Done" }>

const runJson = (
  { missing, result }: Done,
  stdout: Uint8Array,
  stderr: string
) => ({
  exit_code: result.exitCode ?? null,
  signal: result.signal ?? null,
  ...(isUtf8(stdout)
    ? { stdout: Buffer.from(stdout).toString("utf8") }
    : { stdout_base64: Buffer.from(stdout).toString("base64") }),
  stderr,
  truncated: result.truncated,
  missing,
  artifacts: result.artifacts.map((artifact) => artifactWire(artifact)),
  usage: result.usage ?? null,
  server: result.server ?? null
})

/**
 * Passes output on as it comes, or keeps it for the JSON. When nobody reads any more, only the files are worth going on
 * for.
 */
const makeSink = ({ json, out }: Input) => {
  const write = (data: Uint8Array) => Option.isSome(out) ? Io.evenUnread(Io.write(data)) : Io.write(data)
  const stdout: Array<Uint8Array> = []
  const stderr: Array<Uint8Array> = []
  let done: Done | undefined
  const onEvent = (event: SkillClient.StreamEvent): Effect.Effect<void, Exit.Failed> => {
    switch (event._tag) {
      case "Stdout":
        return json ? Effect.sync(() => void stdout.push(event.data)) : write(event.data)
      case "Stderr":
        return json ? Effect.sync(() => void stderr.push(event.data)) : Io.note(event.data)
      case "Done":
        return Effect.sync(() => {
          done = event
        })
      default:
        return Effect.void
    }
  }
  return {
    onEvent,
    done: () => done,
    json: (done: Done) =>
      JSON.stringify(runJson(done, Buffer.concat(stdout), Buffer.concat(stderr).toString("utf8")), null, 2)
  }
}

export const run = Effect.fnUntraced(function*(input: Input) {
  const files = yield* readFiles(input.files)
  const stdin = Option.isSome(input.stdin) ? yield* Io.read(input.stdin.value) : yield* Io.stdin
  if (Option.isSome(input.out)) yield* Io.makeFolder(input.out.value)
  const sink = makeSink(input)
  yield* Connection.withClient(input, (client) =>
    Stream.runForEach(
      client.stream({
        skill: input.skill,
        script: input.script,
        args: input.args,
        files,
        stdin,
        topic: Option.getOrUndefined(input.topic),
        timeout: input.timeout
      }),
      sink.onEvent
    )).pipe(Connection.orFailed(input))
  const done = sink.done()
  if (done === undefined) return yield* new Exit.Failed({ code: 3, message: "the run ended without a result" })
  const { result } = done
  if (input.json) yield* Io.evenUnread(Io.line(sink.json(done)))
  if (Option.isSome(input.out)) yield* saveArtifacts(input.out.value, result.artifacts)
  else if (result.artifacts.length > 0 && !input.json) {
    yield* Io.note(
      `the script wrote ${Exit.oneLine(result.artifacts.map(({ path }) => path).join(", "))}; keep them with --out DIR`
    )
  }
  yield* Effect.forEach(
    result.truncated,
    (what) => Io.note(`warning: the answer does not have all of ${what}: see the server's limits`)
  )
  yield* Effect.forEach(
    done.missing.filter((what) => what !== "progress"),
    (what) => Io.note(`warning: a part of ${what} was lost on its way`)
  )
  if (result.exitCode !== 0) {
    const ended = result.signal === undefined ? `exit code ${result.exitCode}` : result.signal
    return yield* new Exit.Failed({ code: 1, message: `${input.script} of skill ${input.skill} failed with ${ended}` })
  }
})
