import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Flags from "./flags.ts"

export const invoke = Command.make("invoke", {
  skill: Flags.skill,
  data: Flag.String("data").pipe(
    Flag.withMetavar("TEXT"),
    Flag.withDescription("The input; standard input when neither this nor --file is given"),
    Flag.optional
  ),
  file: Flags.path("file", "PATH").pipe(
    Flag.withDescription("A file with the input; - for standard input"),
    Flag.optional
  ),
  topic: Flags.topic,
  ...Flags.connection,
  json: Flags.json
}, (input) => Effect.flatMap(Effect.promise(() => import("./invoke.ts")), (module) => module.invoke(input))).pipe(
  Command.withDescription("Call a skill with its input and print what it answers"),
  Command.withExamples([
    { command: "skillscale invoke csv-analyzer --file data.csv", description: "Analyse a file" },
    { command: "cat notes.txt | skillscale invoke text-summarizer", description: "Summarise standard input" }
  ])
)

export const run = Command.make("run", {
  skill: Flags.skill,
  script: Argument.String("SCRIPT").pipe(Argument.withDescription("A script of the skill, such as scripts/run.py")),
  args: Argument.String("ARGS").pipe(
    Argument.variadic(),
    Argument.withDescription("Arguments of the script, after --")
  ),
  files: Flag.String("file").pipe(
    Flag.atLeast(0),
    Flag.withMetavar("LOCAL[=NAME]"),
    Flag.withDescription("A file to place in the working directory, under its own name or NAME; may be repeated")
  ),
  out: Flags.path("out", "DIR").pipe(
    Flag.withDescription("Folder that receives the files that the script wrote"),
    Flag.optional
  ),
  stdin: Flags.path("stdin", "PATH").pipe(
    Flag.withDescription("A file for the script's standard input; by default what is piped into this command"),
    Flag.optional
  ),
  topic: Flags.topic,
  ...Flags.connection,
  json: Flags.json
}, (input) => Effect.flatMap(Effect.promise(() => import("./run.ts")), (module) => module.run(input))).pipe(
  Command.withDescription("Run any script of a skill: arguments and files in, output and files out"),
  Command.withExamples([
    {
      command:
        "skillscale run markdown-to-html scripts/run.mjs --file README.md --out site -- README.md --out page.html",
      description: "Send a file, run the script with arguments, receive the files that it wrote"
    }
  ])
)
