import * as MetricsServer from "@skillscale/core/MetricsServer"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Exit from "./exit.ts"

/** Serves the metrics of a command that serves skills, where there is a port for them. */
export const layer = (port: Option.Option<number>, host: string) =>
  Option.match(port, {
    onNone: () => Layer.empty,
    onSome: (port) =>
      Layer.effectDiscard(Effect.gen(function*() {
        const server = yield* Effect.mapError(MetricsServer.make({ host, port }), Exit.unavailable)
        yield* Effect.logInfo("metrics are ready").pipe(Effect.annotateLogs({ url: server.url }))
      }))
  })
