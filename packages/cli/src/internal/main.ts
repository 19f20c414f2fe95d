import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as CliConfig from "effect/cli/CliConfig"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Cli from "../Cli.ts"
import * as Exit from "./exit.ts"
import * as Io from "./io.ts"
import * as Lifecycle from "./lifecycle.ts"
import * as Report from "./report.ts"

const lifecycle: Lifecycle.State = { serves: false, signal: undefined }
Lifecycle.listen(lifecycle)
Io.tolerateClosedOutput()

const logger = process.stderr.isTTY
  ? Logger.consolePretty({ colors: Io.canColor(process.stderr), mode: "tty" })
  : Logger.withConsoleError(Logger.formatLogFmt)

Cli.command.pipe(
  Command.run({ version: Cli.version }),
  Effect.tapCause(Report.report),
  Effect.provideService(Lifecycle.Lifecycle, lifecycle),
  Effect.provide(Layer.mergeAll(
    NodeServices.layer,
    CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions, GlobalFlag.LogLevel] }),
    CliOutput.layerPresenter(Report.presenter),
    Logger.layer([logger]),
    Layer.succeed(Logger.LogToStderr, true)
  )),
  NodeRuntime.runMain({
    disableErrorReporting: true,
    teardown: (exit) => process.exit(Exit.codeOf(exit, lifecycle))
  })
)
