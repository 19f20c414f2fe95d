import * as Settings from "@skillscale/core/Settings"
import * as Dependencies from "@skillscale/server/Dependencies"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Exit from "./exit.ts"

const explain = (error: Config.ConfigError | Dependencies.DependenciesError) =>
  Exit.usage(
    error._tag === "DependenciesError"
      ? `${
        error.reason._tag === "CacheUnusable" ? error.reason.detail : error.message
      }; name another folder with SKILLSCALE_CACHE_DIR`
      : Exit.explainConfig(error)
  )

/** The folder with what is prepared for skills. */
export const directory = Effect.flatMap(Settings.cacheDir, Dependencies.prepareDirectory).pipe(Effect.mapError(explain))

/** A confined run has its own there, so that it would not see what is the host's. */
const isHidden = (path: string): boolean => /^\/(?:tmp|var\/tmp|dev|proc)(?:\/|$)/.test(path)

/**
 * The same for a server: nothing when the operator does not want it, and nothing, with a warning, when the folder that it would
 * be by default cannot be used, as in a container without a home.
 */
export const directoryOfServer = Effect.fnUntraced(function*(sandbox: "on" | "off") {
  if ((yield* Effect.mapError(Settings.dependencies, explain)) === "off") return undefined
  const named = yield* Effect.mapError(Config.String("SKILLSCALE_CACHE_DIR").pipe(Config.withDefault("")), explain)
  const usable = Effect.filterOrFail(
    directory,
    (path) => sandbox === "off" || !isHidden(path),
    (path) =>
      Exit.usage(`${path} is where confined skills have their own files; name another folder with SKILLSCALE_CACHE_DIR`)
  )
  if (named.trim() !== "") return yield* usable
  return yield* Effect.catch(usable, ({ message }) =>
    Effect.as(
      Effect.logWarning("what skills depend on is not prepared").pipe(Effect.annotateLogs({ reason: message })),
      undefined
    ))
})
