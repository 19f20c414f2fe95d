import type * as SkillClient from "@skillscale/client/SkillClient"
import * as Topic from "@skillscale/core/Topic"
import * as Effect from "effect/Effect"
import * as Connection from "./connection.ts"
import * as Exit from "./exit.ts"
import * as Io from "./io.ts"

interface Row {
  readonly topic: string
  readonly replicas: number
  readonly skills: ReadonlyArray<SkillClient.CatalogEntry>
}

const collect = Effect.fnUntraced(function*(client: SkillClient.SkillClient["Service"]) {
  const { topics } = yield* client.topology
  const live = topics.filter((entry) => entry.replicas > 0 && !Topic.isControl(entry.topic))
  const catalog = live.length === 0 ? [] : yield* client.catalog.pipe(
    Effect.catchReason("ClientError", "NoServer", () => Effect.succeed([]))
  )
  return live.map((entry): Row => ({
    topic: entry.topic,
    replicas: entry.replicas,
    skills: catalog.filter((skill) => skill.topic === entry.topic)
  }))
})

const print = Effect.fnUntraced(function*(rows: ReadonlyArray<Row>) {
  if (rows.length === 0) {
    return yield* Io.note("no topic is served; start a server with: skillscale server --topic TOPIC")
  }
  for (const row of rows) {
    yield* Io.line(`${Exit.oneLine(row.topic)}  ${row.replicas} ${row.replicas === 1 ? "replica" : "replicas"}`)
    for (const skill of row.skills) {
      yield* Io.line(`  ${Exit.oneLine(`${skill.name}  ${skill.digest.slice(0, 19)}  ${skill.description}`)}`)
    }
  }
})

export interface Input extends Connection.Options {
  readonly json: boolean
}

export const topics = Effect.fnUntraced(function*(input: Input) {
  const rows = yield* Connection.withClient(input, collect).pipe(Connection.orFailed(input))
  yield* (input.json ? Io.line(JSON.stringify(rows, null, 2)) : print(rows))
})
