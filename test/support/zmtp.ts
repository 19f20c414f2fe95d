import * as Zmtp from "@skillscale/core/Zmtp"

/** The greeting of a peer that speaks ZMTP 3 of a minor version, with a security mechanism. */
export const greeting = (minor: number, mechanism = "NULL"): Buffer => {
  const bytes = Buffer.concat([Zmtp.signature, Zmtp.greetingTail])
  bytes[11] = minor
  bytes.fill(0, 12, 32)
  bytes.write(mechanism, 12, "latin1")
  return bytes
}
