import * as SkillDiscovery from "@skillscale/core/SkillDiscovery"
import * as Telemetry from "@skillscale/core/Telemetry"
import * as Topic from "@skillscale/core/Topic"
import * as ZmqBus from "@skillscale/core/ZmqBus"
import * as SkillServer from "@skillscale/server/SkillServer"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { realpathSync } from "node:fs"
import * as Path from "node:path"
import * as Exit from "./exit.ts"
import { hold } from "./hold.ts"
import * as MetricsPort from "./metricsPort.ts"
import * as Runner from "./runner.ts"

export interface Input extends Runner.Options {
  readonly topic: Option.Option<string>
  readonly xsub: string
  readonly xpub: string
  readonly host: string
  readonly metricsPort: Option.Option<number>
}

const resolved = (directory: string) => {
  try {
    return realpathSync(directory)
  } catch {
    return Path.resolve(directory)
  }
}

/** Skills of the topic, and skills that lie directly in the folder, whatever it is called. */
const servesTopic = (topic: string, directory: string) => {
  const root = resolved(directory)
  return (skill: SkillDiscovery.Skill) => skill.topic === topic || Path.dirname(skill.root) === root
}

const checkedTopic = Effect.fnUntraced(function*(topic: Option.Option<string>) {
  const example = Topic.fromCategory("data-processing")
  if (Option.isNone(topic)) {
    return yield* Exit.usage(
      `there is no topic to serve; name one with --topic or SKILLSCALE_TOPIC, such as ${example}`
    )
  }
  if (/^TOPIC_[A-Z0-9_]+$/.test(topic.value)) return topic.value
  return yield* Exit.usage(
    `topic ${JSON.stringify(topic.value)}: expected TOPIC_ and then A-Z, 0-9 and _, such as ${example}`
  )
})

const warnIfIdle = (topic: string, directory: string) =>
  Layer.effectDiscard(Effect.gen(function*() {
    const { skills } = yield* SkillServer.SkillServer
    if ((yield* skills).length > 0) return
    const { catalog } = yield* SkillDiscovery.SkillDiscovery
    const topics = Array.from(new Set((yield* catalog).skills.map((skill) => skill.topic))).sort()
    yield* Effect.logWarning("the folder has no skill of this topic yet").pipe(
      Effect.annotateLogs({ topic, directory, topics: topics.join(" ") || "none" })
    )
  }))

export const server = Effect.fnUntraced(function*(input: Input) {
  const topic = yield* checkedTopic(input.topic)
  yield* Exit.checkedProxies(input)
  const layer = warnIfIdle(topic, input.skills).pipe(
    Layer.provide(Exit.layerOrUnavailable(
      SkillServer.layer({ ...input, topic, serves: servesTopic(topic, input.skills) })
    )),
    Layer.provide(Exit.layerOrUnavailable(ZmqBus.layerJoined({ xsub: input.xsub, xpub: input.xpub }))),
    Layer.provide(Runner.layer(input)),
    Layer.merge(MetricsPort.layer(input.metricsPort, input.host)),
    Layer.provide(Telemetry.layer({ serviceName: "skillscale-server" }))
  )
  return yield* hold(layer)
})
