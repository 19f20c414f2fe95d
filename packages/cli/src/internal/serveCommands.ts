import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Flags from "./flags.ts"

const proxyFlags = {
  host: Flags.host,
  xsubPort: Flags.xsubPort,
  xpubPort: Flags.xpubPort,
  metricsPort: Flags.metricsPort
}

const runnerFlags = {
  workers: Flags.workers,
  queue: Flags.queue,
  timeout: Flags.serverTimeout,
  requireNative: Flags.requireNative,
  ...Flags.confinement
}

export const up = Command.make(
  "up",
  { skills: Flags.skillsDir("skills"), ...proxyFlags, ...runnerFlags },
  (input) => Effect.flatMap(Effect.promise(() => import("./up.ts")), (module) => module.up(input))
).pipe(
  Command.withDescription(
    "Run the whole stack in one process: the proxy and a server for every category of skills. Ctrl-C or SIGTERM drains " +
      "(calls in hand may finish, 10 s at most) and exits with 0; a second one ends it at once"
  ),
  Command.withShortDescription("Run the whole stack in one process"),
  Command.withExamples([{ command: "skillscale up --skills ./skills", description: "Serve the skills of a folder" }])
)

export const proxy = Command.make(
  "proxy",
  proxyFlags,
  (input) => Effect.flatMap(Effect.promise(() => import("./proxy.ts")), (module) => module.proxy(input))
).pipe(Command.withDescription("Run the proxy between agents and skill servers"))

export const server = Command.make(
  "server",
  {
    topic: Flags.servedTopic,
    skills: Flags.skillsDir("skills-dir"),
    xpub: Flags.xpub,
    xsub: Flags.xsub,
    ...runnerFlags,
    host: Flags.metricsHost,
    metricsPort: Flags.serverMetricsPort
  },
  (input) => Effect.flatMap(Effect.promise(() => import("./server.ts")), (module) => module.server(input))
).pipe(
  Command.withDescription(
    "Run a skill server for one topic. It may start before the proxy. Ctrl-C or SIGTERM drains (calls in hand may finish, " +
      "10 s at most) and exits with 0; a second one ends it at once"
  ),
  Command.withShortDescription("Run a skill server for one topic"),
  Command.withExamples([
    {
      command: "skillscale server --topic TOPIC_DATA_PROCESSING --skills-dir ./skills",
      description: "Serve the skills of skills/data-processing"
    }
  ])
)
