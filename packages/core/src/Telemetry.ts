/**
 * Exports spans over OTLP/HTTP when the environment names a collector, and carries the trace context of W3C across the
 * bus.
 *
 * `layer` reads the standard variables of OpenTelemetry and speaks OTLP/HTTP with JSON. Without an endpoint it is empty and
 * does not load the SDK. Exporting is best effort: the queue is bounded, spans that find it full are dropped, and neither an
 * unreachable collector nor the flush on close holds the program up for more than two seconds. Which spans exist is left to
 * the modules that begin them.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"

/**
 * What tells this process apart in the traces. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win over it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly serviceName: string
  readonly serviceVersion?: string | undefined
  /** One of several processes of the same service, such as the replica's id: `service.instance.id`. */
  readonly instanceId?: string | undefined
}

const text = (name: string) => Config.String(name).pipe(Config.withDefault(""), Config.map((value) => value.trim()))

const settings = Config.all({
  endpoint: text("OTEL_EXPORTER_OTLP_ENDPOINT"),
  tracesEndpoint: text("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
  disabled: text("OTEL_SDK_DISABLED"),
  exporter: text("OTEL_TRACES_EXPORTER")
})

/**
 * Tells whether the environment asks for spans to be exported: an endpoint is set, and neither `OTEL_SDK_DISABLED=true`
 * nor `OTEL_TRACES_EXPORTER=none` forbids it.
 *
 * @category settings
 * @since 0.1.0
 */
export const enabled: Config.Config<boolean> = Config.map(
  settings,
  ({ disabled, endpoint, exporter, tracesEndpoint }) =>
    endpoint + tracesEndpoint !== "" && disabled.toLowerCase() !== "true" && exporter !== "none"
)

/**
 * Exports the spans of the program, if the environment asks for it. Never fails.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<never> =>
  Layer.unwrap(
    Effect.gen(function*() {
      if (!(yield* enabled)) {
        return Layer.empty
      }
      const otlp = yield* Effect.promise(() => import("./internal/telemetryOtlp.ts"))
      return yield* otlp.make(options)
    }).pipe(Effect.catchCause((cause) => Effect.as(Effect.logWarning("traces are not exported", cause), Layer.empty)))
  )

/**
 * The W3C `traceparent` of the current span, or none where there is no span that could be continued elsewhere.
 *
 * @category propagation
 * @since 0.1.0
 */
export const traceparent: Effect.Effect<Option.Option<string>> = Effect.map(
  Effect.option(Effect.currentParentSpan),
  Option.flatMap((span) => {
    const value = `00-${span.traceId.padStart(32, "0")}-${span.spanId}-${span.sampled ? "01" : "00"}`
    return Option.map(parse(value), () => value)
  })
)

/**
 * Runs an effect below the span that a W3C `traceparent` names. A value that is absent or malformed changes nothing.
 *
 * @category propagation
 * @since 0.1.0
 */
export const withTraceparent =
  (value: string | undefined) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Option.match(value === undefined ? Option.none() : parse(value), {
      onNone: () => effect,
      onSome: (span): Effect.Effect<A, E, R> => Effect.withParentSpan(effect, span)
    })

function parse(value: string): Option.Option<Tracer.ExternalSpan> {
  const [matched, version, traceId = "", spanId = "", flags = "", rest] =
    /^([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?$/.exec(value) ?? []
  return matched === undefined || version === "ff" || version === "00" && rest !== undefined ||
      /^0+$/.test(traceId) || /^0+$/.test(spanId)
    ? Option.none()
    : Option.some(Tracer.externalSpan({ traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 }))
}
