/**
 * The `skillscale` command: composes the other packages and owns nothing of its own.
 *
 * Here and in what this module imports are names, flags and help; what a command does is loaded when it runs.
 *
 * @since 0.1.0
 */
import * as Command from "effect/cli/Command"
import { createRequire } from "node:module"
import * as Calls from "./internal/callCommands.ts"
import * as Doctor from "./internal/doctorCommand.ts"
import * as Mcp from "./internal/mcpCommand.ts"
import * as Mount from "./internal/mountCommands.ts"
import * as Serve from "./internal/serveCommands.ts"
import * as Skills from "./internal/skillCommands.ts"
import * as Topics from "./internal/topicsCommand.ts"

const manifest: { readonly version: string } = createRequire(import.meta.url)("../package.json")

/**
 * The version that `skillscale --version` prints: that of the package.
 *
 * @category constants
 * @since 0.1.0
 */
export const version: string = manifest.version

/**
 * The command with all of its subcommands.
 *
 * @category commands
 * @since 0.1.0
 */
export const command = Command.make("skillscale").pipe(
  Command.withDescription(
    "Runs Agent Skills as a service. Exit codes: 0 done; 1 the skill ran and failed; 2 bad usage or bad input; " +
      "3 no answer in time; 4 no proxy or no server, or the server was lost"
  ),
  Command.withSubcommands([
    Serve.up,
    Serve.proxy,
    Serve.server,
    Mount.mount,
    Calls.invoke,
    Calls.run,
    Skills.skills,
    Topics.topics,
    Mcp.mcp,
    Doctor.doctor
  ])
)
