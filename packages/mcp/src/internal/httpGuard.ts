/** Who may ask over HTTP, before anything of a request but its head is read. */
import * as Redacted from "effect/Redacted"
import { createHash, timingSafeEqual } from "node:crypto"
import type { IncomingMessage } from "node:http"
import { isIPv6 } from "node:net"

export interface Options {
  /** The interface that is listened on. */
  readonly host: string
  readonly token: Redacted.Redacted | undefined
  /** More names under which this server is reached, and origins of pages that may use it, as `nameOf` gives them. */
  readonly names: ReadonlyArray<string>
}

export interface Refusal {
  readonly status: number
  readonly message: string
  readonly headers?: Readonly<Record<string, string>>
}

const loopbackNames = ["localhost", "127.0.0.1", "[::1]"]

export const isLoopback = (host: string): boolean =>
  host === "localhost" || host === "::1" || host === "[::1]" || /^127(?:\.\d{1,3}){3}$/.test(host)

const hostOf = (url: string): string | undefined => {
  try {
    return new URL(url).hostname
  } catch {
    return undefined
  }
}

/** A host's name or address as browsers write it; undefined where it is none, or not only that. */
export const nameOf = (text: string): string | undefined =>
  isIPv6(text)
    ? hostOf(`http://[${text}]`)
    : /^(?:\[[^\]]*\]|[\p{L}\p{M}\p{N}_-]+(?:\.[\p{L}\p{M}\p{N}_-]+)*\.?)$/u.test(text)
    ? hostOf(`http://${text}`)
    : undefined

/** The name in a `Host` header. */
const nameIn = (header: string): string | undefined => nameOf(header.replace(/:\d*$/, ""))

const isSame = (one: string, other: string): boolean => {
  const digest = (text: string) => createHash("sha256").update(text).digest()
  return timingSafeEqual(digest(one), digest(other))
}

/**
 * Tells why a request is refused. A page of another site can neither reach the server under a name that is not its own (421), nor
 * from an origin that is not allowed (403). Beyond the loopback interface every name leads here, and only the token counts, unless
 * names are given.
 */
export const make = ({ host, names, token }: Options) => {
  const own = new Set([...loopbackNames, nameOf(host) ?? host, ...names])
  const isAnyName = !isLoopback(host) && names.length === 0
  return ({ headers }: IncomingMessage): Refusal | undefined => {
    const name = nameIn(headers.host ?? "")
    if (name === undefined || !isAnyName && !own.has(name)) {
      return { status: 421, message: "this server is not the one that the Host header names; allow the name to use it" }
    }
    const { authorization, origin } = headers
    if (origin !== undefined && !own.has(hostOf(origin) ?? "")) {
      return { status: 403, message: "pages of this origin may not use this server" }
    }
    if (token === undefined) return undefined
    const given = /^Bearer +([^\s]+) *$/i.exec(authorization ?? "")?.[1]
    if (given !== undefined && isSame(given, Redacted.value(token))) return undefined
    const challenge = given === undefined ? "Bearer" : "Bearer error=\"invalid_token\""
    return {
      status: 401,
      message: given === undefined ? "a bearer token is needed" : "the bearer token is wrong",
      headers: { "www-authenticate": challenge }
    }
  }
}
