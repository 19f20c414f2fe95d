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
      "runs can do without it. Exit codes: 0 all is there; 1 something is missing that --require-sandbox asks for; " +
      "4 it cannot be found out, because the native executor is not built"
  ),
  Command.withShortDescription("Show what this machine confines skills with")
)
