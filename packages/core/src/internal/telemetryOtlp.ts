import * as NodeSdk from "@effect/opentelemetry/NodeSdk"
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http"
import { BatchSpanProcessor, type SpanExporter, type SpanProcessor } from "@opentelemetry/sdk-trace-base"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Http from "node:http"
import * as Https from "node:https"
import type { Options } from "../Telemetry.ts"

const exportMillis = 2_000
const closeMillis = 1_500
const maxQueue = 2_048

const variable = (name: string) => Config.String(name).pipe(Config.withDefault(""), Config.map((text) => text.trim()))

const secret = (name: string) => Config.Redacted(name).pipe(Config.withDefault(Redacted.make("")))

const settings = Config.all({
  endpoint: variable("OTEL_EXPORTER_OTLP_ENDPOINT"),
  tracesEndpoint: variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
  headers: secret("OTEL_EXPORTER_OTLP_HEADERS"),
  tracesHeaders: secret("OTEL_EXPORTER_OTLP_TRACES_HEADERS"),
  serviceName: variable("OTEL_SERVICE_NAME"),
  attributes: variable("OTEL_RESOURCE_ATTRIBUTES")
})

class UnusableCollector extends Schema.TaggedError<UnusableCollector>()("UnusableCollector", {}) {
  override get message() {
    return "expected OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT to be an http or https URL"
  }
}

/** Makes the layer that exports to the collector of the environment. Fails where its address cannot be used. */
export const make = Effect.fnUntraced(function*(options: Options) {
  const { attributes, endpoint, headers, serviceName, tracesEndpoint, tracesHeaders } = yield* settings
  const address = tracesEndpoint === "" ? `${endpoint.replace(/\/$/, "")}/v1/traces` : tracesEndpoint
  const url = URL.parse(address)
  if (url === null || url.protocol !== "http:" && url.protocol !== "https:") {
    return yield* new UnusableCollector()
  }
  const processor = yield* makeProcessor(url, {
    ...keyValues(Redacted.value(headers)),
    ...keyValues(Redacted.value(tracesHeaders))
  })
  const resource = keyValues(attributes)
  return NodeSdk.layer(() => ({
    spanProcessor: processor,
    shutdownTimeout: exportMillis,
    resource: {
      serviceName: serviceName || resource["service.name"] || options.serviceName,
      attributes: {
        ...(options.instanceId !== undefined && { "service.instance.id": options.instanceId }),
        ...(options.serviceVersion !== undefined && { "service.version": options.serviceVersion }),
        ...resource
      }
    }
  }))
})

/** Reads `key1=value1,key2=value2` with percent encoding, as the variables of OpenTelemetry are written. */
const keyValues = (text: string): Record<string, string> =>
  Object.fromEntries(
    text.split(",").flatMap((pair) => {
      const at = pair.indexOf("=")
      const key = decode(pair.slice(0, Math.max(0, at)).trim())
      return key === "" ? [] : [[key, decode(pair.slice(at + 1).trim())]]
    })
  )

const decode = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

const makeProcessor = Effect.fnUntraced(function*(url: URL, headers: Record<string, string>) {
  const run = Effect.runForkWith(yield* Effect.context())
  const agent = url.protocol === "https:" ? new Https.Agent({ keepAlive: true }) : new Http.Agent({ keepAlive: true })
  const exporter = new OTLPTraceExporter({
    url: url.href,
    headers,
    timeoutMillis: exportMillis,
    httpAgentOptions: () => agent
  })
  let isReachable = true
  let isClosing = false
  let isClosed = false

  const note = (error: unknown): void => {
    const succeeds = error === undefined
    if (succeeds !== isReachable && !isClosed) {
      const at = { url: `${url.origin}${url.pathname}` }
      run(
        succeeds
          ? Effect.annotateLogs(Effect.logInfo("traces are exported again"), at)
          : Effect.annotateLogs(Effect.logWarning("traces cannot be exported for now"), { ...at, cause: String(error) })
      )
    }
    isReachable = succeeds
  }

  const guarded: SpanExporter = {
    export: (spans, done) => {
      if (isClosed || isClosing && !isReachable) {
        return done({ code: 1 })
      }
      exporter.export(spans, (result) => {
        note(result.code === 0 ? undefined : result.error ?? new Error("unknown"))
        done(result)
      })
    },
    shutdown: () => exporter.shutdown()
  }
  const batch = new BatchSpanProcessor(guarded, {
    maxQueueSize: maxQueue,
    maxExportBatchSize: 512,
    scheduledDelayMillis: 1_000,
    exportTimeoutMillis: exportMillis
  })
  const processor: SpanProcessor = {
    onStart: (span, context) => batch.onStart(span, context),
    onEnd: (span) => batch.onEnd(span),
    // The SDK flushes before it shuts down, which flushes as well and is bounded here.
    forceFlush: () => Promise.resolve(),
    shutdown: async () => {
      isClosing = true
      let timer: NodeJS.Timeout | undefined
      const deadline = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, closeMillis)
      })
      await Promise.race([batch.shutdown().catch(() => undefined), deadline])
      clearTimeout(timer)
      isClosed = true
      agent.destroy()
    }
  }
  return processor
})
