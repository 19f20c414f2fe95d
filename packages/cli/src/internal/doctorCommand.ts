import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Flags from "./flags.ts"

export const doctor = Command.make(
  "doctor",
  { json: Flags.json },
  (input) => Effect.flatMap(Effect.promise(() => import("./doctor.ts")), (module) => module.doctor(input))
).pipe(
  Command.withDescription(
    "Show what this machine has to confine skills with: what the kernel says of each mechanism, what it protects, and what " +
      "runs can do without it"
  ),
  Command.withShortDescription("Show what this machine confines skills with")
)
