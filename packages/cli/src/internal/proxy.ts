import * as Telemetry from "@skillscale/core/Telemetry"
import * as Proxy from "@skillscale/proxy/Proxy"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Exit from "./exit.ts"
import { hold } from "./hold.ts"

export interface Input {
  readonly host: string
  readonly xsubPort: number
  readonly xpubPort: number
  readonly metricsPort: number
}

export const layer = ({ host, metricsPort, xpubPort, xsubPort }: Input) =>
  Layer.unwrap(
    Effect.map(Telemetry.enabled, (traced) =>
      Exit.layerOrUnavailable(Proxy.layer({ host, xsubPort, xpubPort, metricsPort, metricsHost: host, traced })))
  )

export const proxy = (input: Input) =>
  hold(layer(input).pipe(Layer.provide(Telemetry.layer({ serviceName: "skillscale-proxy" }))))
