import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Flags from "./flags.ts"

export const topics = Command.make(
  "topics",
  { ...Flags.connection, json: Flags.json },
  (input) => Effect.flatMap(Effect.promise(() => import("./topics.ts")), (module) => module.topics(input))
).pipe(Command.withDescription("List live topics, their replicas and their skills"))
