import * as Protocol from "@skillscale/core/Protocol"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as SchemaParser from "effect/SchemaParser"
import * as Connection from "./connection.ts"
import * as Exit from "./exit.ts"
import * as Io from "./io.ts"

export interface Input extends Connection.Options {
  readonly skill: string
  readonly data: Option.Option<string>
  readonly file: Option.Option<string>
  readonly topic: Option.Option<string>
  readonly json: boolean
}

const wire = SchemaParser.encodeSync(Protocol.Response)

const endWithNewline = (text: string) => text === "" || text.endsWith("\n") ? text : `${text}\n`

const readInput = ({ data, file }: Input): Effect.Effect<string | Uint8Array | undefined, Exit.Failed> => {
  if (Option.isNone(data)) return Option.isNone(file) ? Io.stdin : Io.read(file.value)
  return Option.isNone(file)
    ? Effect.succeed(data.value)
    : Effect.fail(Exit.usage("--data and --file exclude each other; give one of them"))
}

const noteExtras = Effect.fnUntraced(function*({ artifacts, stderr = "", truncated }: Protocol.Response) {
  if (stderr !== "") yield* Io.note(Buffer.from(endWithNewline(stderr)))
  const files = (artifacts ?? []).map(({ path }) => path)
  if (files.length > 0) {
    yield* Io.note(
      `the skill wrote ${Exit.oneLine(files.join(", "))}; get them with --json, or with skillscale run … --out DIR`
    )
  }
  yield* Effect.forEach(
    truncated ?? [],
    (what) => Io.note(`warning: the answer does not have all of ${what}: see the server's limits`)
  )
})

export const invoke = Effect.fnUntraced(function*(input: Input) {
  const data = yield* readInput(input)
  const { content, response } = yield* Connection.withClient(
    input,
    (client) =>
      client.invoke({ skill: input.skill, data, topic: Option.getOrUndefined(input.topic), timeout: input.timeout })
  ).pipe(Connection.orFailed(input))
  if (input.json) return yield* Io.line(JSON.stringify(wire(response), null, 2))
  yield* noteExtras(response)
  yield* Io.write(response.stdout ?? endWithNewline(content))
})
