import * as Cause from "effect/Cause"
import type * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Effect from "effect/Effect"
import * as Exit from "./exit.ts"
import * as Io from "./io.ts"

const didYouMean = (suggestions: ReadonlyArray<string>): string =>
  suggestions.length === 0 ? "" : `; did you mean ${suggestions.join(" or ")}?`

/** Without what the parser, a primitive or a schema puts before it. */
const expectation = (text: string): string =>
  `expected ${text.replace(/^Schema validation failed: /, "").replace(/^Expected:? /, "")}`

const describe = (error: CliError.NonShowHelpErrors): string => {
  switch (error._tag) {
    case "UnrecognizedOption":
      return `there is no flag ${error.option}${didYouMean(error.suggestions)}`
    case "MissingOption":
      return `--${error.option} is missing`
    case "MissingArgument":
      return `${error.argument} is missing`
    case "UnexpectedArgument":
      return `nothing is expected at ${error.arguments.map((argument) => JSON.stringify(argument)).join(" ")}`
    case "UnknownSubcommand":
      return `there is no command ${JSON.stringify(error.subcommand)}${didYouMean(error.suggestions)}`
    case "InvalidValue": {
      const name = error.kind === "flag" ? `--${error.option}` : error.option
      return error.value === ""
        ? `${name} has no value; ${expectation(error.expected)}`
        : `${name} ${JSON.stringify(error.value)}: ${expectation(error.expected)}`
    }
    default:
      return error.message
  }
}

const hint = (path: ReadonlyArray<string>, errors: ReadonlyArray<CliError.NonShowHelpErrors>): string => {
  const unknownFlag = errors.some((error) => error._tag === "UnrecognizedOption")
  const forScript = unknownFlag && path.at(-1) === "run" ? "arguments of the script go after --; " : ""
  return `${forScript}see ${path.join(" ")} --help`
}

const formatter = (stream: NodeJS.WriteStream) => CliOutput.defaultFormatter({ colors: Io.canColor(stream) })

const toStderr = (text: string) => Effect.sync(() => void process.stderr.write(text))

/** What was asked for goes to standard output; what explains a mistake goes to standard error. */
export const presenter: CliOutput.Presenter = {
  present: (event) => {
    switch (event._tag) {
      case "Version":
        return Effect.orDie(Io.line(formatter(process.stdout).formatVersion(event.name, event.version)))
      case "Help":
        return event.reason === "Requested"
          ? Effect.orDie(Io.line(formatter(process.stdout).formatHelpDoc(event.helpDoc)))
          : toStderr(`${formatter(process.stderr).formatHelpDoc(event.helpDoc)}\n`)
      case "InvalidInvocation": {
        const errors = Array.from(new Set(event.errors.map(describe)))
        return toStderr(`skillscale: ${[...errors, hint(event.commandPath, event.errors)].join("; ")}\n`)
      }
    }
  }
}

const faultOf = (cause: Cause.Cause<unknown>, error: unknown): string => {
  const message = error instanceof Error ? error.message : String(error)
  return process.env["SKILLSCALE_DEBUG"] === "1"
    ? `a fault in skillscale itself:\n${Cause.pretty(cause)}`
    : `a fault in skillscale itself: ${Exit.oneLine(message)}; set SKILLSCALE_DEBUG=1 for its trace`
}

/** Prints why the command ended, unless that was said or nobody needs to know. */
export const report = (cause: Cause.Cause<unknown>): Effect.Effect<void> => {
  if (Cause.hasInterruptsOnly(cause)) return Effect.void
  const error = Cause.squash(cause)
  if (error instanceof Exit.Failed) {
    return error.message === "" ? Effect.void : Io.note(`skillscale: ${Exit.oneLine(error.message)}`)
  }
  return Exit.isShowHelp(error) ? Effect.void : Io.note(`skillscale: ${faultOf(cause, error)}`)
}
