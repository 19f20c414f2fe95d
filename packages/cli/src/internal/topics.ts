import type * as SkillClient from "@skillscale/client/SkillClient"
import * as Topic from "@skillscale/core/Topic"
import * as Effect from "effect/Effect"
import * as Connection from "./connection.ts"
import * as Exit from "./exit.ts"
import * as Io from "./io.ts"
import * as SkillState from "./skillState.ts"

interface Row {
  readonly topic: string
  readonly replicas: number
  readonly skills: ReadonlyArray<SkillClient.CatalogEntry>
}

const nobody: SkillClient.Survey = { skills: [], answered: 0, servers: 0 }

const collect = Effect.fnUntraced(function*(client: SkillClient.SkillClient["Service"]) {
  const { topics } = yield* client.topology
  const live = topics.filter((entry) => entry.replicas > 0 && !Topic.isControl(entry.topic))
  const survey = live.length === 0 ? nobody : yield* client.survey.pipe(
    Effect.catchReason("ClientError", "NoServer", () => Effect.succeed(nobody))
  )
  const rows = live.map((entry): Row => ({
    topic: entry.topic,
    replicas: entry.replicas,
    skills: survey.skills.filter((skill) => skill.topic === entry.topic)
  }))
  return { rows, survey }
})

const noteAbsent = ({ answered, servers = 0 }: SkillClient.Survey) =>
  answered < servers
    ? Io.note(`${answered} of ${servers} servers answered; what only the others have is not listed`)
    : Effect.void

const print = Effect.fnUntraced(function*(rows: ReadonlyArray<Row>) {
  if (rows.length === 0) {
    return yield* Io.note("no topic is served; start a server with: skillscale server --topic TOPIC")
  }
  for (const row of rows) {
    yield* Io.line(`${Exit.oneLine(row.topic)}  ${row.replicas} ${row.replicas === 1 ? "replica" : "replicas"}`)
    for (const skill of row.skills) {
      const remark = SkillState.remark(skill.state)
      const text = `${skill.description}${remark === "" ? "" : ` (${remark})`}`
      yield* Io.line(`  ${Exit.oneLine(`${skill.name}  ${skill.digest.slice(0, 19)}  ${text}`)}`)
    }
  }
})

export interface Input extends Connection.Options {
  readonly json: boolean
}

export const topics = Effect.fnUntraced(function*(input: Input) {
  const { rows, survey } = yield* Connection.withClient(input, collect).pipe(Connection.orFailed(input))
  yield* noteAbsent(survey)
  yield* (input.json ? Io.line(JSON.stringify(rows, null, 2)) : print(rows))
})
